/** Scaling out to many and back in, under load: how soon who was added answers, what consumers reject, how many keys it takes. */

import { expect, test } from "@jest/globals";
import { eventually, login } from "../support/accounts.ts";
import { closeAfterEach } from "../support/close-after-each.ts";
import { readMetric, type Settings } from "../support/instance.ts";
import { readOnceName } from "./consumers.ts";
import { startLoadedFleet } from "./loaded-fleet.ts";
import { buildForeign } from "./population.ts";
import { countServedKeys, watchServedKeys } from "./served-keys.ts";

const onClose = closeAfterEach(30_000);
const foreign = await buildForeign();
const start = (instances: number, settings: Settings, people: number) =>
  startLoadedFleet(instances, settings, onClose, { people, foreign });

test("each of the instances that are added under load, one after the other, answers its first login within 2 s of process start, and no consumer rejects a token, not even one that never reads the set again", async () => {
  // A hash takes as long as by default, in the load too: one login after the other keeps a processor busy.
  const loaded = await start(1, { MAX_SIGNERS: "1", BCRYPT_COST: "12" }, 1);
  const firstLoginsMs: number[] = [];
  for (let added = 0; added < 8; added += 1) {
    const { instance, startedAtMs } = await loaded.fleet.start();
    const { access_token } = await login(instance.url);
    firstLoginsMs.push(Date.now() - startedAtMs);
    await loaded.check(access_token);
  }
  await loaded.more(20);
  process.stderr.write(
    `first logins of added instances: ${firstLoginsMs.join(", ")} ms after their start; ` +
      `${loaded.tokens()} tokens\n`,
  );
  expect(loaded.rejecting()).toEqual([]);
  expect(loaded.refusals()).toEqual([]);
  expect(Math.max(...firstLoginsMs)).toBeLessThan(2000);
}, 60_000);

test("from 1 instance to 20 and back to 1, the oldest first, there is always a mature signer, who reads the set again rejects no token, and the JWKS stays as small as its signers allow", async () => {
  const maxSigners = 4;
  // Time for those that stay to ask for the places, which they do every few seconds, and to mature.
  const loaded = await start(1, { MAX_SIGNERS: String(maxSigners), SHUTDOWN_LINGER: "30s" }, 3);
  const { fleet, url } = loaded;
  const growing = watchServedKeys(url);
  onClose(growing.stop);
  for (const size of [4, 8, 12, 16, 20]) {
    const added = Array.from({ length: size - fleet.serving().length }, () => fleet.start());
    await Promise.all(added);
    await loaded.more(2 * size);
  }
  const mostGrowing = await growing.stop();
  expect(mostGrowing).toBe(2 * maxSigners);

  const shrinking = watchServedKeys(url);
  onClose(shrinking.stop);
  const left: string[] = [];
  for (const size of [10, 4, 1]) {
    const leaving = fleet.serving().slice(0, -size);
    const beganMs = Date.now();
    await Promise.all(leaving.map((member) => fleet.terminate(member)));
    await loaded.more(2 * size);
    left.push(`${leaving.length} in ${Date.now() - beganMs} ms`);
  }
  const mostShrinking = await shrinking.stop();
  const signers = await loaded.signers();
  process.stderr.write(
    `1 to 20 to 1: ${mostGrowing} keys at most while they were added, ${mostShrinking} while they left (${left.join(", ")}), ` +
      `${await countServedKeys(url)} in the end, of ${signers} that were signers; ${loaded.tokens()} tokens\n`,
  );

  expect(loaded.rejecting()).toEqual([readOnceName]);
  expect(loaded.refusals()).toEqual([]);
  expect(await loaded.immatureTokens()).toBe(0);
  // Of each that left the key that signed, until its last token has expired; its next was withdrawn.
  await eventually(async () => (await countServedKeys(url)) <= 2 + (signers - 1));
  const [remaining] = fleet.serving();
  if (remaining === undefined) throw new Error("nobody is left");
  await login(remaining.instance.url);
  expect(await readMetric(remaining.instance, "keyfleet_signer")).toBe(1);
}, 120_000);
