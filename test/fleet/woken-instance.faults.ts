/** The control of `woken-instance.test.ts`: what an instance says that takes an old reading for a new one. */

import { expect, test } from "@jest/globals";
import { eventually } from "../support/accounts.ts";
import { askOnWaking, startWith, useWakingFleet } from "./asked-on-waking.ts";

useWakingFleet();

/** By an interval of ten seconds what it read within twenty is current, though the other signs after less than one. */
test("control: without a new reading, a good token is none on waking", async () => {
  const woken = await startWith("10s", false);
  // It has read: to sign it would need two intervals.
  await eventually(async () => (await fetch(`${woken.url}/.well-known/jwks.json`)).status === 200);
  const { userinfo, kept } = await askOnWaking(woken);
  expect([userinfo.status, kept]).toEqual([401, 200]);
});
