/** Scaling out under load, before consumers that go by what they have read, beside its control; and who lingers. */

import { expect, test } from "@jest/globals";
import { addAccount, login } from "../support/accounts.ts";
import { closeAfterEach } from "../support/close-after-each.ts";
import { freshDatabase } from "../support/database.ts";
import { readMetric, type Settings, startInstance, type TestInstance } from "../support/instance.ts";
import { readOnceName } from "./consumers.ts";
import { startLoadedFleet } from "./loaded-fleet.ts";

const onClose = closeAfterEach();
const start = (instances: number, settings: Settings) =>
  startLoadedFleet(instances, settings, onClose, { tries: 2 });

// How soon after its start is measured where nothing runs beside it, in `scale.faults.ts`.
test("an instance that is added under load answers a login as soon as it is ready, and no consumer rejects a token, not even one that never reads the set again", async () => {
  const scaled = async () => {
    // Those that are added borrow for good: no key signs that was not there when the set was read.
    const loaded = await start(1, { MAX_SIGNERS: "1" });
    for (let added = 0; added < 2; added += 1) {
      await loaded.check(await loaded.logIn(await loaded.fleet.start()));
    }
    await loaded.more(60);
    expect(loaded.rejecting()).toEqual([]);
    expect(loaded.refusals()).toEqual([]);
  };
  /** Borrowing and maturing switched off: it signs at once with a key of its own. */
  const control = async () => {
    const loaded = await start(1, { KEY_PROPAGATION_DELAY: "0s" });
    await loaded.fleet.start();
    await loaded.more(10);
    // By chance others too, which read between a key's publication and its first signature.
    expect(loaded.rejecting()).toContain(readOnceName);
  };
  await Promise.all([scaled(), control()]);
}, 60_000);

test("an instance whose successor does not mature lingers to the end of its time, and one that is alone not at all", async () => {
  const lingerMs = 1500;
  const database = await freshDatabase();
  const instances: TestInstance[] = [];
  onClose(async () => {
    await Promise.all(instances.map((instance) => instance.stop("SIGKILL")));
    await database.drop();
  });
  await addAccount(database.url);
  const begin = async () => {
    const instance = await startInstance({
      databaseUrl: database.url,
      settings: {
        ISSUER: "https://id.example",
        KEY_PROPAGATION_DELAY: "1h",
        SHUTDOWN_LINGER: `${lingerMs}ms`,
      },
    });
    instances.push(instance);
    return instance;
  };
  const lingers = "lending signatures until another instance can";
  const [old, successor] = await Promise.all([begin(), begin()]);

  expect(await old.stop()).toBe(0);
  expect(old.output()).toContain(lingers);
  const { rows } = await database.pool.query<{ at: Date }>(
    "select stopped_at as at from keyfleet.instances where id = $1",
    [old.instanceId],
  );
  expect(Number(rows[0]?.at) - saidAtMs(old, "draining")).toBeGreaterThanOrEqual(lingerMs);
  // Nobody has matured meanwhile.
  await login(successor.url);
  expect(await readMetric(successor, 'keyfleet_access_tokens_issued_total{key="immature"}')).toBe(1);

  expect(await successor.stop()).toBe(0);
  expect(successor.output()).not.toContain(lingers);
}, 30_000);

/** By its log. */
function saidAtMs({ output }: TestInstance, message: string): number {
  const line = output()
    .split("\n")
    .find((candidate) => candidate.includes(`"msg":"${message}"`));
  return Date.parse((JSON.parse(line ?? "{}") as { time?: string }).time ?? "");
}
