/** A deploy under load, before consumers that go by what they have read, beside its control. */

import { expect, test } from "@jest/globals";
import { closeAfterEach } from "../support/close-after-each.ts";
import type { Settings } from "../support/instance.ts";
import { readOnceName } from "./consumers.ts";
import { startLoadedFleet } from "./loaded-fleet.ts";
import { buildForeign } from "./population.ts";

const onClose = closeAfterEach(30_000);
const foreign = await buildForeign();
const start = (instances: number, settings: Settings, delayMs?: number) =>
  startLoadedFleet(instances, settings, onClose, { foreign, ...(delayMs === undefined ? {} : { delayMs }) });

test("where a whole fleet of MAX_SIGNERS instances is replaced, one after the other, the last lends until a new one is mature and no longer: there is always a mature signer, and who reads the set again rejects no token", async () => {
  const lingerMs = 30_000;
  const replaced = async (linger: string) => {
    const loaded = await start(2, { MAX_SIGNERS: "2", SHUTDOWN_LINGER: linger });
    const [first, last] = loaded.fleet.serving();
    if (first === undefined || last === undefined) throw new Error("nobody is there to be replaced");
    const successors = await Promise.all([loaded.fleet.start(), loaded.fleet.start()]);
    const beganMs = Date.now();
    await loaded.fleet.terminate(first);
    await loaded.fleet.terminate(last);
    const leftAfterMs = Date.now() - beganMs;
    await loaded.more(30);
    return {
      immatureTokens: await loaded.immatureTokens(),
      rejecting: loaded.rejecting(),
      refusals: loaded.refusals(),
      stoppedAfterMaturityMs: await loaded.stoppedAfterMaturityMs(last, successors),
      leftAfterMs,
    };
  };
  const [lingering, control] = await Promise.all([replaced(`${lingerMs}ms`), replaced("0s")]);
  expect(lingering).toMatchObject({ immatureTokens: 0, rejecting: [readOnceName], refusals: [] });
  expect(lingering.stoppedAfterMaturityMs).toBeGreaterThanOrEqual(0);
  expect(lingering.leftAfterMs).toBeLessThan(lingerMs / 2);
  // What consumers make of such tokens is shown above: here it depends on when each of them read last.
  expect(control.immatureTokens).toBeGreaterThan(0);
  expect(control.stoppedAfterMaturityMs).toBeLessThan(0);
}, 120_000);

test("where the whole fleet leaves at once, and lingers no longer than a key takes to mature, it lends until one has", async () => {
  // Longer than borrowers wait before they ask for a place again.
  const delayMs = 8000;
  const loaded = await start(2, { MAX_SIGNERS: "2", SHUTDOWN_LINGER: `${delayMs}ms` }, delayMs);
  const old = loaded.fleet.serving();
  const successors = await Promise.all([loaded.fleet.start(), loaded.fleet.start()]);
  await Promise.all(old.map((member) => loaded.fleet.terminate(member)));
  await loaded.more(20);
  expect(loaded.rejecting()).toEqual([readOnceName]);
  expect(loaded.refusals()).toEqual([]);
  expect(await loaded.immatureTokens()).toBe(0);
  // Who is ready to leave while the other has not said yet that it leaves too may go: the last of them may not.
  const stopped = old.map((member) => loaded.stoppedAfterMaturityMs(member, successors));
  expect(Math.max(...(await Promise.all(stopped)))).toBeGreaterThanOrEqual(0);
}, 120_000);
