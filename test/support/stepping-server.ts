/** A PostgreSQL whose clock a test can step, by libfaketime (Debian's package of that name). */

import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { type OwnServer, startOwnServer } from "./own-server.ts";

/** Undefined where the package is not installed. */
export function findFakeTime(): string | undefined {
  if (!existsSync("/usr/lib")) return undefined;
  return readdirSync("/usr/lib")
    .map((folder) => `/usr/lib/${folder}/faketime/libfaketime.so.1`)
    .find((file) => existsSync(file));
}

export interface SteppingServer extends OwnServer {
  /** From now on its clock is off by so much, against ours. */
  stepTo(offsetSeconds: number): void;
}

export async function startSteppingServer(library: string): Promise<SteppingServer> {
  const folder = mkdtempSync(path.join(tmpdir(), "keyfleet-clock-"));
  const file = path.join(folder, "offset");
  const stepTo = (offsetSeconds: number) =>
    writeFileSync(file, `${offsetSeconds < 0 ? "" : "+"}${offsetSeconds}\n`);
  stepTo(0);
  // So that the user who runs PostgreSQL can read it.
  chmodSync(folder, 0o755);
  const server = await startOwnServer({
    environment: {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_NO_CACHE: "1",
      FAKETIME_DONT_FAKE_MONOTONIC: "1",
    },
  });
  return {
    ...server,
    stepTo,
    async remove() {
      await server.remove();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
