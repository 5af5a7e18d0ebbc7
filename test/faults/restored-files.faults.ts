/** The server's files are replaced by an older copy of them, as a backup is restored, and the fleet runs on. */

import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { decodeProtectedHeader } from "jose";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { createVerifier, type VerificationError, type Verifier } from "../../src/verifier/index.ts";
import { runCommand } from "../cli/run-command.ts";
import { expectRevoked } from "../fleet/revoked-keys.ts";
import { runbookCommands } from "../fleet/runbook.ts";
import { canIssue, eventuallyAll } from "../fleet/silent-fleet.ts";
import { servedKeys, verifyThrough } from "../fleet/stock-verification.ts";
import { replaceInFunction } from "../postgres/fleet-rows.ts";
import { addAccount, alice, eventually, login, postLogin } from "../support/accounts.ts";
import { type Balancer, startBalancer } from "../support/balancer.ts";
import { closeAfterEach } from "../support/close-after-each.ts";
import { readMetric, startInstance, type TestInstance } from "../support/instance.ts";
import { type OwnServer, startOwnServer } from "../support/own-server.ts";
import { readSnapshot } from "../support/revocation-stream.ts";
import { logOut, revokeIds } from "../support/revocations.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

const closing = closeAfterEach();
let server: OwnServer;
/** The way to the server of those that are there before it goes back in time. */
let proxy: TcpProxy;
let balancer: Balancer;

beforeEach(async () => {
  server = await startOwnServer({});
  await addAccount(server.url);
  [proxy, balancer] = await Promise.all([startTcpProxy(server.url), startBalancer()]);
  closing(
    () => proxy.close(),
    () => balancer.close(),
  );
});
afterEach(() => server.remove());

async function start(databaseUrl = proxy.url): Promise<TestInstance> {
  // No period ends meanwhile.
  const settings = { ISSUER: balancer.url, AUDIENCES: balancer.url, KEY_ROTATION_SCHEDULE: "0 0 1 1 *" };
  const instance = await startInstance({ databaseUrl, settings });
  closing(() => instance.stop("SIGKILL"));
  return instance;
}

const run = (argv: readonly string[]) => runCommand(argv, { settings: { DATABASE_URL: server.url } });
const kidOf = ({ access_token }: TokenResponse) => decodeProtectedHeader(access_token).kid ?? "";
const kidsOf = async (instance: TestInstance) => [...(await servedKeys(instance)).keys()];

async function refresh({ url }: TestInstance, refresh_token: string): Promise<Partial<TokenResponse>> {
  const body = new URLSearchParams({ grant_type: "refresh_token", refresh_token });
  return (await (await fetch(`${url}/token`, { method: "POST", body })).json()) as Partial<TokenResponse>;
}

async function statusOf({ url }: TestInstance, { access_token }: TokenResponse): Promise<number> {
  return (await fetch(`${url}/userinfo`, { headers: { authorization: `Bearer ${access_token}` } })).status;
}

async function verdict(verifier: Verifier, { access_token }: TokenResponse): Promise<string> {
  const refusal = (error: unknown) => (error as VerificationError).code;
  return verifier.verify(access_token).then(() => "accepted", refusal);
}

interface FleetState {
  readonly epoch: string;
  readonly version: number;
  readonly number: number;
}

async function fleetState(): Promise<FleetState> {
  const { rows } = await server.pool.query(
    "select epoch, directory_version::int as version, revocation_number::int as number from keyfleet.fleet_state",
  );
  return rows[0];
}

async function unrevokedKids(instance: TestInstance): Promise<string[]> {
  const { rows } = await server.pool.query<{ kid: string }>(
    `select kid from keyfleet.signing_keys where instance_id = $1 and revoked_at is null
     and retired_early_at is null order by activates_at`,
    [instance.instanceId],
  );
  return rows.map(({ kid }) => kid);
}

/** Of a fleet that has been up for a while: every token since is on record. Resolves when all are back. */
async function backUp(instances: readonly TestInstance[]): Promise<() => Promise<void>> {
  await server.pool.query("update keyfleet.fleet_state set complete_since = complete_since - interval '1 h'");
  const restore = await server.backUp();
  const { rows } = await server.pool.query("select clock_timestamp()::text as now");
  await eventuallyAll(instances, canIssue);
  await eventually(async () => {
    const { rowCount } = await server.pool.query(
      "select from keyfleet.instances where heartbeat_at > $1::timestamptz",
      [rows[0].now],
    );
    return rowCount === instances.length;
  });
  return restore;
}

/** Has the counters come to where they were by other changes; returns what was revoked by that. */
async function catchUp({ version, number }: FleetState): Promise<readonly string[]> {
  const before = await fleetState();
  expect([version - before.version, number - before.number].every((missing) => missing > 0)).toBe(true);
  for (let next = before.version; next < version; next += 1)
    await server.pool.query(
      "update keyfleet.signing_keys set seal = seal where kid = (select min(kid) from keyfleet.signing_keys)",
    );
  const ids = await revokeIds(server.pool, number - before.number);
  expect(await fleetState()).toMatchObject({ version, number });
  return ids;
}

test("keys, their ends and what was revoked come back, honest tokens are no forgeries, and lost sessions are refused", async () => {
  await addAccount(server.url, { ...alice, username: "bob" });
  const barredProxy = await startTcpProxy(server.url);
  closing(() => barredProxy.close());
  const [old, barred] = await Promise.all([start(), start(barredProxy.url)]);
  balancer.setTargets([old.url]);
  const [kept, refreshed, ended] = await Promise.all([login(old.url), login(old.url), login(old.url)]);
  const restore = await backUp([old, barred]);

  // Of all this the backup knows nothing.
  const late = await start();
  const lost = [await login(old.url), await login(late.url)] as const;
  const successor = (await refresh(old, refreshed.refresh_token)) as TokenResponse;
  await logOut(old.url, ended.refresh_token);
  const barredKids = await unrevokedKids(barred);
  const commands = [
    ["accounts", "disable", "bob"],
    ["instances", "revoke", barred.instanceId, "--yes"],
  ];
  for (const argv of commands) expect((await run(argv)).code).toBe(0);
  await eventually(() => barred.output().includes("instance_ended"));
  const verifier = createVerifier({
    ...{ issuer: balancer.url, audience: balancer.url },
    revocation: { whenStale: "accept", maxStaleness: "60s" },
  });
  closing(() => verifier.close());
  await eventually(async () => (await verdict(verifier, ended)) === "token_revoked");
  const known = [...(await unrevokedKids(old)), ...(await unrevokedKids(late))];
  await eventuallyAll([old, late], async (instance) => (await kidsOf(instance)).length === known.length);
  const before = await fleetState();

  for (const way of [proxy, barredProxy]) way.setMode("refuse");
  await restore();
  const newcomer = await start(server.url);
  const revokedSince = await catchUp(before);
  const own = await unrevokedKids(newcomer);
  proxy.setMode("pass");

  const fleet = [old, late, newcomer];
  const kids = [...known, ...own].sort();
  expect(kids).toHaveLength(6);
  await eventuallyAll(fleet, async (instance) => {
    const served = await kidsOf(instance);
    return served.length === kids.length && kids.every((kid) => served.includes(kid));
  });
  await eventuallyAll([old, late], canIssue);
  await eventuallyAll(fleet, async ({ url }) => {
    const { events } = (await readSnapshot(url)).snapshot;
    return [...barredKids, ...revokedSince].every((id) => events.some((event) => event.id === id));
  });
  expect((await fleetState()).epoch).not.toBe(before.epoch);
  for (const instance of fleet) {
    for (const answer of [...lost, successor]) {
      await verifyThrough(instance, answer.access_token);
      expect(await statusOf(instance, answer)).toBe(401);
      expect(await refresh(instance, answer.refresh_token)).toMatchObject({ error: "invalid_grant" });
    }
    expect(await readMetric(instance, "keyfleet_forged_tokens_total")).toBe(0);
    await expectRevoked([instance], barredKids);
  }
  expect(await refresh(old, kept.refresh_token)).toMatchObject({ scope: kept.scope });
  for (const answer of lost) expect(await verdict(verifier, answer)).toBe("accepted");

  // Who was told that it is revoked says so again, and never publishes.
  barredProxy.setMode("pass");
  await eventually(async () => {
    const { rows } = await server.pool.query("select revoked_at from keyfleet.instances where id = $1", [
      barred.instanceId,
    ]);
    return rows[0].revoked_at !== null;
  });
  expect((await postLogin(barred.url)).status).toBe(503);
  const { rows: published } = await server.pool.query(
    "select kid from keyfleet.signing_keys where instance_id = $1",
    [barred.instanceId],
  );
  expect(published.map(({ kid }) => kid).sort()).toEqual([...barredKids].sort());

  // It ends, and of what its key signed there is no record.
  const [current = "", next = ""] = await unrevokedKids(late);
  expect(kidOf(lost[1])).toBe(current);
  expect(await late.stop()).toBe(0);
  await eventuallyAll([old, newcomer], async (instance) => !(await kidsOf(instance)).includes(next));
  for (const instance of [old, newcomer]) await verifyThrough(instance, lost[1].access_token);

  // What was ended since the backup is there again, but for those who heard of it.
  expect(await verdict(verifier, ended)).toBe("token_revoked");
  expect([await statusOf(old, ended), (await postLogin(old.url, { username: "bob" })).status]).toEqual([
    200, 200,
  ]);
  for (const argv of runbookCommands("The database was restored from a backup", { NAME: "bob" }))
    expect((await run(argv)).code).toBe(0);
  expect([await statusOf(old, ended), (await postLogin(old.url, { username: "bob" })).status]).toEqual([
    401, 401,
  ]);
});

test("control: were a key that has no record withdrawn whenever its owner ends, its token would verify no more", async () => {
  const old = await start();
  const restore = await backUp([old]);
  const late = await start();
  const lost = await login(late.url);
  await restore();
  await eventually(async () => (await unrevokedKids(late)).length === 2);
  await eventuallyAll([old, late], canIssue);
  await verifyThrough(old, lost.access_token);
  await replaceInFunction(server.pool, "end_keys", /or k\.activates_at <= \([^)]*\)/, "");
  await late.stop();
  await eventually(async () => !(await kidsOf(old)).includes(kidOf(lost)));
  await expect(verifyThrough(old, lost.access_token)).rejects.toThrow("no applicable key");
});
