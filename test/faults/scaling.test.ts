/** Scaling out and deploying under load, before consumers that go by what they have read; each beside its control. */

import { afterEach, expect, test } from "@jest/globals";
import { login } from "../support/accounts.ts";
import type { Settings } from "../support/instance.ts";
import { delayMs, startLoadedFleet } from "./loaded-fleet.ts";
import { waitedForProcessorMs } from "./processor-waits.ts";

let closing: (() => Promise<void>)[] = [];

afterEach(async () => {
  await Promise.all(closing.map((close) => close()));
  closing = [];
});

const start = (instances: number, settings: Settings) =>
  startLoadedFleet(instances, settings, (close) => closing.push(close));

test("an instance that is added under load answers a login within 2 s of its start, and no consumer rejects a token, not even one that never refetches", async () => {
  const scaled = async () => {
    const loaded = await start(1, {});
    const firstLoginsMs: number[] = [];
    for (let added = 0; added < 2; added += 1) {
      const { instance, startedAtMs } = await loaded.fleet.start();
      await login(instance.url);
      firstLoginsMs.push(Date.now() - startedAtMs - waitedForProcessorMs(instance.process.pid));
    }
    await loaded.more(60);
    console.log(
      `first logins of added instances: ${firstLoginsMs.map(Math.round).join(", ")} ms after their start`,
    );
    expect(loaded.rejecting()).toEqual([]);
    expect(Math.min(...firstLoginsMs)).toBeLessThan(2000);
  };
  /** Borrowing and maturing switched off: it signs at once with a key of its own. */
  const control = async () => {
    const loaded = await start(1, { KEY_PROPAGATION_DELAY: "0s" });
    // By chance a consumer reads between a key's publication and its first signature: not all of them, every time.
    for (let added = 0; added < 6 && loaded.rejecting().length === 0; added += 1) {
      await loaded.fleet.start();
      await loaded.more(20);
    }
    expect(loaded.rejecting()).not.toEqual([]);
  };
  await Promise.all([scaled(), control()]);
}, 60_000);

test("replacing a whole fleet of MAX_SIGNERS instances, one after the other, with a linger as long as the delay always leaves a mature signer, and no token rejected", async () => {
  const replaced = async (linger: string) => {
    const loaded = await start(2, { MAX_SIGNERS: "2", SHUTDOWN_LINGER: linger });
    const old = loaded.fleet.serving();
    await Promise.all(old.map(() => loaded.fleet.start()));
    for (const member of old) await loaded.fleet.terminate(member);
    await loaded.more(30);
    return { immatureTokens: await loaded.immatureTokens(), rejecting: loaded.rejecting() };
  };
  const [lingering, control] = await Promise.all([replaced(`${delayMs + 1000}ms`), replaced("0s")]);
  expect(lingering).toEqual({ immatureTokens: 0, rejecting: [] });
  // What consumers make of such tokens is shown above: here it depends on when each of them read last.
  expect(control.immatureTokens).toBeGreaterThan(0);
}, 60_000);
