/** What an instance says of tokens whose key was published while it was stopped: nothing, before it has read again. */

import { expect, test } from "@jest/globals";
import { askOnWaking, startWith, useWakingFleet } from "./asked-on-waking.ts";

useWakingFleet();

test("a token of a key that it does not know yet is no unknown token: what is asked on waking is answered from a new reading", async () => {
  const answers = await askOnWaking(await startWith("200ms"));
  const { userinfo, introspection, revocation } = answers;
  expect([userinfo.status, introspection.status, revocation.status]).toEqual([200, 200, 200]);
  expect(await introspection.json()).toMatchObject({ active: true });
  expect([answers.kept, answers.revoked]).toEqual([200, 401]);
});
