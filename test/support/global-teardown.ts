/** Stops the PostgreSQL that global-setup started, and removes its files. */

import { rm } from "node:fs/promises";
import path from "node:path";

export default async function globalTeardown(): Promise<void> {
  if (!globalThis.testServer) return;
  const { postgres, directory } = globalThis.testServer;
  if (postgres) {
    await postgres.stop();
    await rm(path.dirname(postgres.dataDirectory), { recursive: true, force: true });
  }
  await rm(directory, { recursive: true, force: true });
}
