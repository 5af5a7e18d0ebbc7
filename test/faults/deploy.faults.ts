/** A deploy under load, before consumers that go by what they have read, beside its control. */

import { expect, test } from "@jest/globals";
import { closeAfterEach } from "../support/close-after-each.ts";
import type { Settings } from "../support/instance.ts";
import { readOnceName } from "./consumers.ts";
import { startLoadedFleet } from "./loaded-fleet.ts";

const onClose = closeAfterEach(30_000);
const start = (instances: number, settings: Settings) => startLoadedFleet(instances, settings, onClose);

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
      stoppedAfterMaturityMs: await loaded.stoppedAfterMaturityMs(last, successors),
      leftAfterMs,
    };
  };
  const [lingering, control] = await Promise.all([replaced(`${lingerMs}ms`), replaced("0s")]);
  expect(lingering).toMatchObject({ immatureTokens: 0, rejecting: [readOnceName] });
  expect(lingering.stoppedAfterMaturityMs).toBeGreaterThanOrEqual(0);
  expect(lingering.leftAfterMs).toBeLessThan(lingerMs / 2);
  // What consumers make of such tokens is shown above: here it depends on when each of them read last.
  expect(control.immatureTokens).toBeGreaterThan(0);
  expect(control.stoppedAfterMaturityMs).toBeLessThan(0);
}, 120_000);
