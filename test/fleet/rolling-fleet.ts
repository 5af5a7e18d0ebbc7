/** Two instances behind a balancer that are replaced one after the other, as a deployment with new settings does. */

import { type Settings, startInstance, type TestInstance } from "../support/instance.ts";

export interface RollingFleet {
  /** What the balancer sends people to. */
  readonly serving: readonly TestInstance[];
  urls(): readonly string[];
  /** Starts a replacement with these settings, waits until it is ready, ends the old one; then the next. */
  replaceAll(settings: Settings): Promise<void>;
  stop(): Promise<void>;
}

/** On a slow machine a change of secrets takes longer than the usual grace of a repeated refresh. */
const steady = { ISSUER: "http://localhost", REFRESH_GRACE: "120s" };

export async function startRollingFleet(databaseUrl: string, settings: Settings): Promise<RollingFleet> {
  const start = (given: Settings) => startInstance({ databaseUrl, settings: { ...steady, ...given } });
  const serving: TestInstance[] = await Promise.all([start(settings), start(settings)]);
  return {
    serving,
    urls: () => serving.map(({ url }) => url),
    async replaceAll(next) {
      for (const old of [...serving]) {
        serving.push(await start(next));
        serving.splice(serving.indexOf(old), 1);
        const code = await old.stop();
        if (code !== 0) throw new Error(`an instance ended with ${code}:\n${old.output()}`);
      }
    },
    async stop() {
      await Promise.all(serving.map((instance) => instance.stop("SIGKILL")));
    },
  };
}
