/** Consumers in Go, Python, Java and Rust reject nothing that a fleet under change issues, and what they have to. */

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { decodeJwt } from "jose";
import { login } from "../support/accounts.ts";
import type { ForeignConsumer, ForeignKind } from "./consumers/foreign-consumers.ts";
import { type ForeignFleet, startForeignFleet } from "./foreign-fleet.ts";
import { type Outcome, type Pace, runScenario, type Tally } from "./foreign-scenario.ts";
import { buildForeign } from "./population.ts";

const audience = "https://api.example";
const otherAudience = "https://other.example";

/**
 * A cooldown is what a lead has to cover, so it is what is scaled; go-oidc has none. How long they keep a set is left as
 * it is, 5 minutes for PyJWT, Nimbus and (by Cache-Control) jose4j: none of them waits for that where a kid is unknown.
 */
const paces: readonly Pace[] = [
  {
    name: "periods of 2 s, and cooldowns of 300 ms in place of the defaults",
    settings: {
      KEY_ROTATION_SCHEDULE: "*/2 * * * * *",
      KEY_PROPAGATION_DELAY: "1500ms",
      ACCESS_TOKEN_TTL: "6s",
      VERIFY_GRACE: "0s",
    },
    cooldownMs: 300,
    kidsInEachAct: 12,
    pauseMs: 0,
  },
  {
    name: "periods of a minute, and every consumer as it is by default",
    settings: {
      KEY_ROTATION_SCHEDULE: "0 * * * * *",
      KEY_PROPAGATION_DELAY: "45s",
      ACCESS_TOKEN_TTL: "1m",
      VERIFY_GRACE: "0s",
    },
    cooldownMs: undefined,
    kidsInEachAct: 2,
    pauseMs: 50,
  },
];

const kinds = await buildForeign();

for (const pace of kinds.length > 0 ? paces : []) {
  describe(pace.name, () => {
    let outcome: Outcome;

    beforeAll(async () => {
      outcome = await runScenario(pace, kinds, audience);
      console.log(outcome.report);
    }, 420_000);

    test("the fleet rotates, borrows, and replaces the signer that is lost", () => {
      expect(outcome.signers).toBe(3);
      expect(outcome.borrowed).toBeGreaterThan(20);
    });

    for (const kind of kinds) {
      test(`${kind.name} rejects no token that is valid, and accepts none under a made-up key`, () => {
        const { verifications, rejections, madeUpKeysAccepted } = tallyOf(outcome.withLead, kind);
        expect(rejections).toEqual([]);
        expect(verifications).toBeGreaterThanOrEqual(outcome.issued);
        expect(madeUpKeysAccepted).toBe(0);
      });

      test(`control: ${kind.name} rejects some where keys are shown late, but only if it waits`, () => {
        const { consumer, rejections, madeUpKeysAccepted } = tallyOf(outcome.withoutLead, kind);
        expect(rejections.length > 0).toBe(consumer.staleMs > 0);
        for (const reason of rejections) expect(reason).toMatch(kind.unknownKey);
        expect(madeUpKeysAccepted).toBe(0);
      });
    }
  });
}

describe("one token", () => {
  let fleet: ForeignFleet;

  beforeAll(async () => {
    fleet = await startForeignFleet({ AUDIENCES: `${audience},${otherAudience}` });
    await fleet.start();
  });
  afterAll(() => fleet?.close());

  for (const kind of kinds) {
    describe(kind.name, () => {
      let consumer: ForeignConsumer;

      beforeEach(() => {
        const jwksUrl = new URL(`${fleet.issuer}/.well-known/jwks.json`);
        consumer = kind.start({ issuer: fleet.issuer, audience, jwksUrl });
      });
      afterEach(() => consumer.close());

      test("accepts it", async () => {
        const { access_token } = await login(fleet.issuer);
        expect(await consumer.verify(access_token)).toBe(decodeJwt(access_token).sub);
      });

      test("refuses it with a changed payload, for its signature", async () => {
        const [header, payload = "", signature] = (await login(fleet.issuer)).access_token.split(".");
        const claims = JSON.parse(Buffer.from(payload, "base64url").toString());
        const changed = JSON.stringify({ ...claims, scope: "keyfleet:admin" });
        const token = [header, Buffer.from(changed).toString("base64url"), signature].join(".");
        await expect(consumer.verify(token)).rejects.toThrow(kind.badSignature);
      });

      test("refuses one for another audience, for its audience", async () => {
        const { access_token } = await login(fleet.issuer, { audience: otherAudience });
        await expect(consumer.verify(access_token)).rejects.toThrow(kind.wrongAudience);
      });
    });
  }
});

function tallyOf(tallies: readonly Tally[], kind: ForeignKind): Tally {
  const found = tallies.find((tally) => tally.kind === kind);
  if (found === undefined) throw new Error(`${kind.name} was not started`);
  return found;
}
