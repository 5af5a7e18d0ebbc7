/**
 * Signers that die again and again: what becomes of the JWKS, which holds a key of each until its last token has expired,
 * and of those tokens.
 */

import { expect, test } from "@jest/globals";
import { decodeProtectedHeader } from "jose";
import { eventually, login } from "../support/accounts.ts";
import { closeAfterEach } from "../support/close-after-each.ts";
import { readMetric, untilItSigns } from "../support/instance.ts";
import { readOnceName } from "./consumers.ts";
import { type LoadedFleet, startLoadedFleet } from "./loaded-fleet.ts";
import { buildForeign, startRounds } from "./population.ts";
import { countServedKeys, watchServedKeys } from "./served-keys.ts";

const starts = 200;
/** Long enough for places to fall free again and again: a killed signer keeps its own for a minute. */
const leastMs = 150_000;
/** Each lives for the two seconds that its key takes to mature. */
const atOnce = 6;
/** Consumers' limits begin at 100 keys. */
const budget = 90;
/** As many signers as there may be, whose keys outlive their retirement by 25 minutes; no period ends meanwhile. */
const settings = { MAX_SIGNERS: "29", ACCESS_TOKEN_TTL: "15m", VERIFY_GRACE: "10m" };

const foreign = await buildForeign();
const onClose = closeAfterEach(30_000);

/** Lives until it has signed a token, which it returns; where there was no place for it, until it could have others sign. */
async function crash({ fleet, database }: LoadedFleet): Promise<string | undefined> {
  const member = await fleet.start();
  const { url, instanceId } = member.instance;
  const { rows } = await database.pool.query<{ kid: string }>(
    "select kid from keyfleet.signing_keys where instance_id = $1",
    [instanceId],
  );
  const kids = rows.map(({ kid }) => kid);
  let token: string | undefined;
  if (kids.length > 0)
    await eventually(
      async () => {
        // Until its key has matured others sign, whom death may keep from it.
        token = await login(url).then(
          ({ access_token }) => access_token,
          () => undefined,
        );
        return token !== undefined && kids.includes(String(decodeProtectedHeader(token).kid));
      },
      30_000,
      200,
    );
  await fleet.kill(member);
  return token;
}

/** Of the instances that came and went: how many published keys, and how many keys have signed. */
async function traces(
  { database }: LoadedFleet,
  steadyId: string,
): Promise<{ readonly publishers: number; readonly signed: number }> {
  const { rows } = await database.pool.query<{ publishers: number; signed: number }>(
    `select count(distinct k.instance_id)::int as publishers, count(distinct t.kid)::int as signed
     from keyfleet.signing_keys k left join keyfleet.issued_tokens t using (kid) where k.instance_id <> $1`,
    [steadyId],
  );
  return rows[0] ?? { publishers: 0, signed: 0 };
}

test(`${starts} starts and kills in minutes keep the JWKS within ${budget} keys, nobody who reads it again rejects a token, and two minutes later only those that tokens need are left`, async () => {
  const loaded = await startLoadedFleet(1, settings, onClose, { foreign });
  const { fleet, population } = loaded;
  const [steady] = fleet.serving().map(({ instance }) => instance);
  if (steady === undefined) throw new Error("nobody is there");
  const before = await countServedKeys(steady.url);
  const watch = watchServedKeys(steady.url);
  /** Whose signers are dead. */
  const orphans: string[] = [];
  const rounds = startRounds(population, orphans);
  onClose(watch.stop, rounds.stop);
  const beganMs = Date.now();
  let crashes = 0;
  const crashOnAndOn = async () => {
    while (crashes < starts || Date.now() < beganMs + leastMs) {
      crashes += 1;
      const token = await crash(loaded);
      if (token !== undefined) orphans.push(token);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, crashOnAndOn));
  const crashedMs = Date.now();
  const { publishers, signed } = await traces(loaded, steady.instanceId);
  // The keys of which tokens are about; those that never signed are withdrawn.
  await eventually(async () => (await countServedKeys(steady.url)) <= before + signed, 120_000);
  const most = await watch.stop();
  const left = await countServedKeys(steady.url);
  const leftAfterMs = Date.now() - crashedMs;
  // Every orphan once more.
  await rounds.more(orphans.length);
  process.stderr.write(
    `${crashes} starts and kills in ${Math.round((crashedMs - beganMs) / 1000)} s, ${publishers} of signers: ` +
      `${before} keys before, ${most} at most, ${left} after ${Math.round(leftAfterMs / 1000)} s; ` +
      `${loaded.tokens()} tokens, ${orphans.length} of dead signers, each has accepted ${population.leastAccepted()} at least\n`,
  );
  expect(left).toBe(before + signed);
  expect(publishers).toBeGreaterThan(40);
  expect(most).toBeGreaterThan(left);
  expect(most).toBeGreaterThan(budget * 0.75);
  expect(most).toBeLessThanOrEqual(budget);
  expect(await loaded.immatureTokens()).toBe(0);
  expect(loaded.rejecting()).toEqual([readOnceName]);
  expect([...rounds.complaints.keys()]).toEqual([readOnceName]);
  expect(population.leastAccepted()).toBeGreaterThan(500);
  await eventually(async () => (await readMetric(steady, "keyfleet_lost_instances_total")) === publishers);
  // And whoever comes now has a place.
  const newcomer = await fleet.start();
  await untilItSigns(newcomer.instance);
}, 900_000);
