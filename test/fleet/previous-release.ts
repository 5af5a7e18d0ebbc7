/** What instances of the release before migration 000005 ask of the database, statement by statement, as they asked it. */

import { randomBytes, randomUUID } from "node:crypto";
import { generateSigningKey } from "../../src/keys/signing-key.ts";
import { createPool, endPool, type Pool, servingTimeouts } from "../../src/postgres/pool.ts";

export interface PreviousRelease {
  /** One of everything: a sign of life, a key, a session from its login to its end, a client's token. */
  round(): Promise<void>;
  readonly rounds: number;
  close(): Promise<void>;
}

const clientId = "jobs";
const second = 1000;

/** An account and a client with nothing but what the functions ask for. Returns the account's id. */
export async function insertGrantees(pool: Pick<Pool, "query">): Promise<string> {
  const accountId = randomUUID();
  await pool.query(
    `insert into keyfleet.accounts
       (id, username, password, scopes, enabled, must_change_password, version, secret_id, seal)
     values ($1, 'alice', '', '{}', true, false, 1, '', '')`,
    [accountId],
  );
  await pool.query(
    `insert into keyfleet.clients (id, secret_hash, audiences, scopes, secret_id, seal)
     values ($1, '', '{}', '{}', '', 'seal')`,
    [clientId],
  );
  return accountId;
}

/** One connection, as long-lived as an instance's: its functions stay planned. */
export async function startPreviousRelease(databaseUrl: string, accountId: string): Promise<PreviousRelease> {
  const pool = createPool({ url: databaseUrl, max: 1, timeouts: servingTimeouts, onError: () => undefined });
  const instanceId = randomUUID();
  const kids: string[] = [];
  let rounds = 0;

  async function first(text: string, values: readonly unknown[] = []): Promise<Record<string, unknown>> {
    return (await pool.query(text, [...values])).rows[0] ?? {};
  }

  /** As that release does: a reading of the clock that aged, as by a lock of the migration, is worth another try. */
  async function withFreshClock(work: () => Promise<void>): Promise<void> {
    for (let failures = 1; ; failures += 1) {
      try {
        return await work();
      } catch (error) {
        if (failures === 3 || !String(error).endsWith(": clock_differs")) throw error;
      }
    }
  }

  async function expectOutcome(expected: unknown, text: string, values: readonly unknown[]): Promise<void> {
    const { outcome } = await first(text, values);
    if (outcome !== expected) throw new Error(`${text.trim()}: ${outcome}`);
  }

  const at = (timeMs: number) => new Date(timeMs).toISOString();
  const hash = () => `\\x${randomBytes(32).toString("hex")}`;

  async function nowMs(): Promise<number> {
    const { databaseMs } = await first(
      `select extract(epoch from pg_catalog.clock_timestamp())::float8 * 1000 as "databaseMs",
              directory_version as "directoryVersion", revocation_number as "revocationNumber", epoch
       from keyfleet.fleet_state`,
    );
    return Math.round(Number(databaseMs));
  }

  async function publish(): Promise<void> {
    const { kid, x } = generateSigningKey("EdDSA");
    const now = await nowMs();
    const times = [now, now, now + 3600 * second, now + 7200 * second].map(at);
    await expectOutcome(
      "published",
      "select keyfleet.publish_signing_key($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) as outcome",
      [kid, instanceId, "EdDSA", x, ...times, "", Buffer.from("seal")],
    );
    kids.push(kid);
  }

  const issuer = (now: number) => ({
    ...{ instance_id: instanceId, candidates: kids.slice(-2), unsettled: [], now_estimate: at(now) },
    ...{ propagation_delay: "0 s", token_ttl: "60 s", verify_grace: "60 s" },
  });
  const session = <Given extends object>(now: number, given: Given) => ({
    ...{ id: randomUUID(), client_id: "first-party", audience: "a", scope: "s", address: "", user_agent: "" },
    ...{ auth_time: at(now), expires_at: at(now + 3600 * second), rotated_at: at(now) },
    ...{ secret_id: "", seal: hash(), ...given },
  });
  const acting = { actor: "test", instance_id: instanceId, address: null };
  const jti = () => randomBytes(16).toString("base64url");

  async function useSession(): Promise<void> {
    const began = await nowMs();
    const started = session(began, { account_id: accountId, refresh_hash: hash() });
    const tokenId = jti();
    await expectOutcome(
      "issued",
      `select outcome, kid, mature, issued_at from keyfleet.start_session(
         jsonb_populate_record(null::keyfleet.sessions, $1), $2, $3, $4,
         jsonb_populate_record(null::keyfleet.issuer, $5))`,
      [started, 1, "192.0.2.1", tokenId, issuer(began)],
    );
    const next = { refresh_hash: hash(), parent_hash: started.refresh_hash, rotated_at: at(began) };
    await expectOutcome(
      "issued",
      `select r.outcome, r.kid, r.mature, r.issued_at, r.scope as granted, (r.session).id
       from keyfleet.refresh_session(
         $1, $2, $3, $4, $5, $6, jsonb_populate_record(null::keyfleet.sessions, $7), $8, $9, $10, $11,
         jsonb_populate_record(null::keyfleet.issuer, $12), jsonb_populate_record(null::keyfleet.acting, $13)) r`,
      [
        ...[started.id, 0, started.refresh_hash, true, "first-party", null, next, "1 h", "30 s", 10, jti()],
        ...[issuer(began), acting],
      ],
    );
    await expectOutcome(
      true,
      "select keyfleet.revoke_token($1, jsonb_populate_record(null::keyfleet.acting, $2)) as outcome",
      [tokenId, acting],
    );
    await expectOutcome(
      true,
      "select keyfleet.end_session($1, $2, jsonb_populate_record(null::keyfleet.acting, $3)) as outcome",
      [started.id, "logout", acting],
    );
  }

  async function issueClientToken(): Promise<void> {
    const now = await nowMs();
    await expectOutcome(
      "issued",
      `select r.outcome, r.kid, r.mature, r.issued_at, (r.session).id from keyfleet.issue_client_token(
         $1, $2, jsonb_populate_record(null::keyfleet.sessions, $3), $4, $5, $6,
         jsonb_populate_record(null::keyfleet.issuer, $7), $8) r`,
      [
        clientId,
        Buffer.from("seal"),
        session(now, { client_id: clientId }),
        "a",
        "s",
        jti(),
        issuer(now),
        "",
      ],
    );
  }

  await pool.query(
    `insert into keyfleet.instances (id, host, process_id, started_at, heartbeat_at)
     values ($1, $2, $3, pg_catalog.clock_timestamp(), pg_catalog.clock_timestamp())
     on conflict (id) do nothing`,
    [instanceId, "", 0],
  );
  return {
    get rounds() {
      return rounds;
    },
    async round() {
      const { rowCount } = await pool.query(
        `update keyfleet.instances set heartbeat_at = pg_catalog.clock_timestamp()
         where id = $1 and stopped_at is null and revoked_at is null`,
        [instanceId],
      );
      if (rowCount !== 1) throw new Error("the sign of life was not taken");
      for (const work of [publish, useSession, issueClientToken]) await withFreshClock(work);
      await pool.query("select keyfleet.confirm_epoch($1, $2, $3) as renewed", [0, instanceId, false]);
      await pool.query(
        "select k.kid from keyfleet.signing_keys k where k.expires_at > pg_catalog.clock_timestamp()",
      );
      rounds += 1;
    },
    close: () => endPool(pool),
  };
}
