/** Consumers in Go, Python, Java and Rust reject nothing that a fleet under change issues, and what they have to. */

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { decodeJwt } from "jose";
import { login } from "../support/accounts.ts";
import { type ForeignConsumer, prepareForeignConsumers } from "./consumers/foreign-consumers.ts";
import { type ForeignFleet, startForeignFleet } from "./foreign-fleet.ts";
import { type Outcome, type Pace, runScenario } from "./foreign-scenario.ts";

const audience = "https://api.example";
const otherAudience = "https://other.example";

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

const { kinds, missing } = await prepareForeignConsumers();
const cases = kinds.map((kind) => [kind.name, kind] as const);

for (const why of missing) test.skip(why, () => undefined);

(cases.length === 0 ? describe.skip : describe).each(paces)("$name", (pace) => {
  let outcome: Outcome;

  beforeAll(async () => {
    outcome = await runScenario(pace, kinds, audience);
    console.log([outcome.report, ...missing.map((why) => `missing: ${why}`)].join("\n"));
  }, 420_000);

  test("the fleet rotates, borrows, and replaces the signer that is lost", () => {
    expect(outcome.signers).toBe(3);
    expect(outcome.borrowed).toBeGreaterThan(20);
  });

  test.each(cases)("%s rejects no token that is valid, and accepts none under a made-up key", (name) => {
    const { verifications, rejections, madeUpKeysAccepted } = tallyOf(outcome.withLead, name);
    expect(rejections).toEqual([]);
    expect(verifications).toBeGreaterThanOrEqual(outcome.issued);
    expect(madeUpKeysAccepted).toBe(0);
  });

  test.each(cases)(
    "control: %s rejects some where keys are shown late, but only if it waits",
    (name, kind) => {
      const { consumer, rejections, madeUpKeysAccepted } = tallyOf(outcome.withoutLead, name);
      expect(rejections.length > 0).toBe(consumer.staleMs > 0);
      for (const reason of rejections) expect(reason).toMatch(kind.unknownKey);
      expect(madeUpKeysAccepted).toBe(0);
    },
  );
});

(cases.length === 0 ? describe.skip : describe)("one token", () => {
  let fleet: ForeignFleet;

  beforeAll(async () => {
    fleet = await startForeignFleet({ AUDIENCES: `${audience},${otherAudience}` });
    await fleet.start();
  });
  afterAll(() => fleet?.close());

  describe.each(cases)("%s", (_name, kind) => {
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
      const changed = Buffer.from(JSON.stringify({ ...claims, scope: "keyfleet:admin" })).toString(
        "base64url",
      );
      const token = [header, changed, signature].join(".");
      await expect(consumer.verify(token)).rejects.toThrow(kind.badSignature);
    });

    test("refuses one for another audience, for its audience", async () => {
      const { access_token } = await login(fleet.issuer, { audience: otherAudience });
      await expect(consumer.verify(access_token)).rejects.toThrow(kind.wrongAudience);
    });
  });
});

function tallyOf(tallies: Outcome["withLead"], name: string): Outcome["withLead"][number] {
  const found = tallies.find(({ kind }) => kind.name === name);
  if (found === undefined) throw new Error(`${name} was not started`);
  return found;
}
