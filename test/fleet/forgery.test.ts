import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { decodeJwt, decodeProtectedHeader } from "jose";
import type { AccessTokenClaims } from "../../src/protocol/access-token.ts";
import type { RevocationEvent } from "../../src/protocol/revocation-event.ts";
import { addClient, basic } from "../http/endpoint-fixture.ts";
import { addAccount, eventually, login } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { readMetric, startInstance, type TestInstance, untilItSigns } from "../support/instance.ts";
import { openStream, revocationOf } from "../support/revocation-stream.ts";
import { person } from "./forged-rows.ts";
import { servedKeys, verifyThrough } from "./stock-verification.ts";
import { type RobbedInstance, startRobbedInstance } from "./stolen-keys.ts";

/** The drill of a stolen signing key: what it signs is told from what was issued, and gives the key away. */

const issuer = "http://localhost";
const mallory = person("mallory");

interface Fleet {
  readonly database: TestDatabase;
  readonly robbed: RobbedInstance;
  readonly instances: readonly [RobbedInstance, ...TestInstance[]];
  introspect(instance: TestInstance, token: string): Promise<object>;
  stop(): Promise<void>;
}

async function startFleet(size: number, response: string): Promise<Fleet> {
  const database = await freshDatabase();
  await addAccount(database.url);
  await addAccount(database.url, mallory);
  const secret = await addClient(database, { id: "api", audiences: [issuer], scopes: [] }, issuer);
  const settings = { ISSUER: issuer, FORGERY_RESPONSE: response, LOGIN_ATTEMPTS: "1000" };
  const options = { databaseUrl: database.url, settings };
  const others = Array.from({ length: size - 1 }, () => startInstance(options));
  const starting = await Promise.allSettled([startRobbedInstance(options), ...others]);
  const started = starting.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
  const stop = async () => {
    await Promise.all(started.map((instance) => instance.stop()));
    await database.drop();
  };
  const [robbed, ...rest] = started as [RobbedInstance, ...TestInstance[]];
  if (started.length < size) {
    await stop();
    throw new Error("an instance did not start");
  }
  // As of a fleet that has been up for a while: every token since is on record.
  await database.pool.query(
    "update keyfleet.fleet_state set complete_since = complete_since - interval '1 h'",
  );
  const instances = [robbed, ...rest] as const;
  return {
    database,
    robbed,
    instances,
    async introspect(instance, token) {
      const body = new URLSearchParams({ token });
      const headers = basic("api", secret);
      const answer = await fetch(`${instance.url}/introspect`, { method: "POST", headers, body });
      return [answer.status, await answer.json()];
    },
    stop,
  };
}

const inactive = [200, { active: false }];
const active = (token: string) => [200, { active: true, token_type: "Bearer", ...decodeJwt(token) }];
const kidOf = (token: string) => decodeProtectedHeader(token).kid ?? "";
const forgedTokens = (instance: TestInstance) => readMetric(instance, "keyfleet_forged_tokens_total");
const send = (instance: TestInstance, method: string, target: string, token: string) =>
  fetch(`${instance.url}${target}`, { method, headers: { authorization: `Bearer ${token}` } });
const loginAsMallory = (instance: TestInstance) =>
  login(instance.url, { username: mallory.username, password: mallory.password });

async function refresh(instance: TestInstance, token: string): Promise<Response> {
  const body = new URLSearchParams({ grant_type: "refresh_token", refresh_token: token });
  return fetch(`${instance.url}/token`, { method: "POST", body });
}

describe("where a forgery raises the alarm", () => {
  let fleet: Fleet;
  /** Of each instance, from before any forgery. */
  let honest: readonly string[];
  /** Of mallory, who has the key that signed it. */
  let own: string;
  let claims: AccessTokenClaims;
  let alices: AccessTokenClaims;

  beforeAll(async () => {
    fleet = await startFleet(2, "alarm");
    honest = await Promise.all(fleet.instances.map(async ({ url }) => (await login(url)).access_token));
    own = (await loginAsMallory(fleet.robbed)).access_token;
    claims = decodeJwt<AccessTokenClaims>(own);
    alices = decodeJwt<AccessTokenClaims>(honest[0] ?? "");
  }, 30_000);
  afterAll(() => fleet?.stop());

  const countAudited = async () => {
    const { rows } = await fleet.database.pool.query(
      "select count(*)::int as count from keyfleet.audit_events where event = 'token_forged' and kid = $1",
      [kidOf(own)],
    );
    return Number(rows[0].count);
  };

  async function expectHonestTokensActive(): Promise<void> {
    for (const instance of fleet.instances) {
      for (const token of [...honest, own]) {
        expect(await fleet.introspect(instance, token)).toEqual(active(token));
        expect((await send(instance, "GET", "/userinfo", token)).status).toBe(200);
      }
    }
  }

  test("honest tokens are active everywhere, and no alarm", async () => {
    await expectHonestTokensActive();
    for (const instance of fleet.instances) expect(await forgedTokens(instance)).toBe(0);
    expect(await countAudited()).toBe(0);
  });

  test.each<[string, () => object]>([
    ["an unknown jti", () => ({ jti: "AAAAAAAAAAAAAAAAAAAAAA" })],
    ["an unknown jti, of alice's session", () => ({ ...alices, jti: "BBBBBBBBBBBBBBBBBBBBBB" })],
    ["the thief's own jti with another sub", () => ({ sub: alices.sub })],
    ["the thief's own jti with another session", () => ({ sub: alices.sub, rid: alices.rid })],
    ["the thief's own jti with a wider scope", () => ({ scope: `${claims.scope} keyfleet:admin` })],
    ["the thief's own jti with another client", () => ({ client_id: "api" })],
    ["the thief's own jti with a later end", () => ({ exp: claims.exp + 60 })],
    ["the thief's own jti with a later start", () => ({ iat: claims.iat + 1, nbf: claims.nbf + 1 })],
    ["the thief's own jti with an earlier start", () => ({ nbf: claims.nbf - 60 })],
    ["the thief's own jti with another sign-in", () => ({ auth_time: claims.iat - 60 })],
    ["the thief's own jti without a sign-in", () => ({ auth_time: undefined })],
    ["the jti of alice's, under another key", () => decodeJwt(honest[1] ?? "")],
  ])("%s, under the stolen key, is refused, told, and leaves the key", async (_, changes) => {
    const forged = await fleet.robbed.forge(own, { ...claims, ...changes() });
    const audited = await countAudited();
    for (const instance of fleet.instances) {
      // The signature is good: who asks the key alone is deceived.
      await eventually(() =>
        verifyThrough(instance, forged).then(
          () => true,
          () => false,
        ),
      );
      const [before, outputBefore] = [await forgedTokens(instance), instance.output().length];
      expect(await fleet.introspect(instance, forged)).toEqual(inactive);
      for (const [method, target] of [
        ["GET", "/userinfo"],
        ["GET", "/sessions"],
        ["POST", "/logout"],
      ] as const)
        expect((await send(instance, method, target, forged)).status).toBe(401);
      expect(await forgedTokens(instance)).toBe(before + 4);
      await eventually(() => instance.output().slice(outputBefore).includes("was never issued"));
      expect(instance.output().slice(outputBefore)).toContain(kidOf(forged));
      expect((await servedKeys(instance)).has(kidOf(own))).toBe(true);
    }
    await eventually(async () => (await countAudited()) === audited + 4 * fleet.instances.length);
  });

  test("a token that is not on record proves nothing in a cluster that took over and has begun no epoch yet", async () => {
    const forged = await fleet.robbed.forge(own, { ...claims, jti: "CCCCCCCCCCCCCCCCCCCCCC" });
    const before = await forgedTokens(fleet.robbed);
    const { pool } = fleet.database;
    const { rows } = await pool.query("select cluster_identity as identity from keyfleet.fleet_state");
    await pool.query("update keyfleet.fleet_state set cluster_identity = 'the one before'");
    expect(await fleet.introspect(fleet.robbed, forged)).toEqual(inactive);
    expect(await fleet.introspect(fleet.robbed, own)).toEqual(active(own));
    expect(await forgedTokens(fleet.robbed)).toBe(before);
    await pool.query("update keyfleet.fleet_state set cluster_identity = $1", [rows[0].identity]);
    expect(await fleet.introspect(fleet.robbed, forged)).toEqual(inactive);
    expect(await forgedTokens(fleet.robbed)).toBe(before + 1);
  });

  test("what the stolen key adds beside the thief's own claims is not repeated", async () => {
    const forged = await fleet.robbed.forge(own, { ...claims, groups: ["administrators"] });
    for (const instance of fleet.instances) {
      expect([inactive, active(own)]).toContainEqual(await fleet.introspect(instance, forged));
    }
  });

  test("an honest token of an ended session is inactive, and so is a revoked one, and neither is a forgery", async () => {
    const before = await Promise.all(fleet.instances.map(forgedTokens));
    const ended = await login(fleet.robbed.url);
    expect((await send(fleet.robbed, "POST", "/logout", ended.access_token)).status).toBe(204);
    const revoked = await login(fleet.robbed.url);
    const body = new URLSearchParams({ token: revoked.access_token, client_id: "first-party" });
    expect((await fetch(`${fleet.robbed.url}/revoke`, { method: "POST", body })).status).toBe(200);
    for (const instance of fleet.instances) {
      for (const { access_token } of [ended, revoked]) {
        expect(await fleet.introspect(instance, access_token)).toEqual(inactive);
        expect((await send(instance, "GET", "/userinfo", access_token)).status).toBe(401);
      }
    }
    expect(await Promise.all(fleet.instances.map(forgedTokens))).toEqual(before);
  });

  test("an honest token with a made-up signature is no proof of anything", async () => {
    const before = await Promise.all(fleet.instances.map(forgedTokens));
    const [header, , signature] = own.split(".");
    const payload = Buffer.from(JSON.stringify({ ...claims, sub: alices.sub })).toString("base64url");
    for (const instance of fleet.instances)
      expect(await fleet.introspect(instance, [header, payload, signature].join("."))).toEqual(inactive);
    expect(await Promise.all(fleet.instances.map(forgedTokens))).toEqual(before);
  });

  test("honest tokens are active everywhere after all that", async () => {
    await expectHonestTokensActive();
  });
});

describe("where a forgery revokes the key", () => {
  let fleet: Fleet;

  beforeAll(async () => {
    fleet = await startFleet(3, "revoke");
  }, 30_000);
  afterAll(() => fleet?.stop());

  test.each([
    ["the instance it was stolen from", 0, "/introspect"],
    ["a second instance", 1, "/introspect"],
    ["a third instance, at an endpoint of its own", 2, "/userinfo"],
  ])(
    "met by %s, it is gone everywhere within a second, and its owner and the clients go on",
    async (_, index, target) => {
      const { robbed, instances, introspect } = fleet;
      const meeting = instances[index] as TestInstance;
      // The owner may still be publishing the ring that follows the one before.
      await untilItSigns(robbed);
      const session = await login(robbed.url);
      const elsewhere = await Promise.all(instances.slice(1).map(({ url }) => login(url)));
      const kid = kidOf(session.access_token);
      const forgery = decodeJwt(session.access_token);
      const forged = await robbed.forge(session.access_token, { ...forgery, jti: "AAAAAAAAAAAAAAAAAAAAAA" });
      for (const instance of instances) {
        expect(await introspect(instance, session.access_token)).toEqual(active(session.access_token));
        await eventually(async () => (await servedKeys(instance)).has(kid));
      }
      const { rows: ring } = await fleet.database.pool.query<{ kid: string }>(
        "select kid from keyfleet.signing_keys where instance_id = $1 and revoked_at is null",
        [robbed.instanceId],
      );
      const streams = await Promise.all(instances.map(({ url }) => openStream(url)));

      const [startedAtMs, counted] = [performance.now(), await forgedTokens(meeting)];
      if (target === "/introspect") expect(await introspect(meeting, forged)).toEqual(inactive);
      else expect((await send(meeting, "GET", target, forged)).status).toBe(401);
      const isGone = async (instance: TestInstance) => {
        const keys = await servedKeys(instance);
        return ring.every((key) => !keys.has(key.kid));
      };
      await Promise.all(instances.map((instance) => eventually(() => isGone(instance))));
      const goneMs = performance.now() - startedAtMs;
      const told = (events: (typeof streams)[number]["events"]): readonly RevocationEvent[] =>
        events.filter(({ type }) => type === "revocation").map(revocationOf);
      for (const { events } of streams) {
        await eventually(() => told(events).some(({ type, id }) => type === "key" && id === kid));
      }
      const toldMs = performance.now() - startedAtMs;
      for (const stream of streams) stream.close();

      // Another instance has a key of its own: the client that asks there now gets its token now.
      const refreshed = await refresh(instances[1] as TestInstance, session.refresh_token);
      expect(refreshed.status).toBe(200);
      const tokens = (await refreshed.json()) as { access_token: string; refresh_token: string };
      await eventually(async () => (await refresh(robbed, tokens.refresh_token)).status === 200);
      const ownerMs = performance.now() - startedAtMs;
      console.log(
        `met by instance ${index}: out of every JWKS after ${goneMs.toFixed(0)} ms, on every stream after ` +
          `${toldMs.toFixed(0)} ms, its owner signs again after ${ownerMs.toFixed(0)} ms`,
      );
      expect(goneMs).toBeLessThan(1000);
      expect(toldMs).toBeLessThan(1000);

      expect(await forgedTokens(meeting)).toBe(counted + 1);
      for (const instance of instances) {
        const answer = await fetch(`${instance.url}/.well-known/jwks/${kid}`);
        expect([answer.status, await answer.json()]).toMatchObject([410, { error: "revoked_key" }]);
        for (const token of [forged, session.access_token])
          expect(await introspect(instance, token)).toEqual(inactive);
        for (const { access_token } of [tokens, ...elsewhere])
          expect(await introspect(instance, access_token)).toEqual(active(access_token));
      }
      const fresh = await login(robbed.url);
      expect(ring.map((key) => key.kid)).not.toContain(kidOf(fresh.access_token));
      for (const instance of instances) {
        await eventually(async () => (await servedKeys(instance)).has(kidOf(fresh.access_token)));
        await verifyThrough(instance, fresh.access_token);
        expect(await introspect(instance, fresh.access_token)).toEqual(active(fresh.access_token));
      }
      const counts = await Promise.all(instances.map(forgedTokens));
      expect(counts.reduce((sum, count) => sum + count, 0)).toBe(index + 1);
    },
    20_000,
  );
});
