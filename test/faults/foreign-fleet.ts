/** A fleet with room for two signers, in which instances come and go while it issues tokens one after the other. */

import { decodeProtectedHeader } from "jose";
import { addAccount, eventually, postLogin } from "../support/accounts.ts";
import { type Balancer, startBalancer } from "../support/balancer.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { readMetric, type Settings, startInstance, type TestInstance } from "../support/instance.ts";

export interface ForeignFleet {
  readonly database: TestDatabase;
  readonly issuer: string;
  /** Those that are up, in the order in which they came. */
  readonly instances: readonly TestInstance[];
  start(): Promise<TestInstance>;
  /** With SIGKILL; then its silence is made to have lasted for a minute, so that its place is free. */
  kill(instance: TestInstance): Promise<void>;
  /** Of alice, by one after the other of those that are up; asked elsewhere where one cannot issue. */
  issue(): Promise<string>;
  /** Who made the keys under which tokens were issued, by kid. */
  owners(): Promise<ReadonlyMap<string, string>>;
  /** Of a metric, over all that are up. */
  total(metric: string): Promise<number>;
  close(): Promise<void>;
}

export async function startForeignFleet(settings: Settings): Promise<ForeignFleet> {
  const database = await freshDatabase();
  await addAccount(database.url);
  const balancer: Balancer = await startBalancer();
  const instances: TestInstance[] = [];
  const kids = new Set<string>();
  let turn = 0;

  async function start(): Promise<TestInstance> {
    const given = { ISSUER: balancer.url, LOGIN_ATTEMPTS: "10000", ...settings };
    const instance = await startInstance({ databaseUrl: database.url, settings: given });
    instances.push(instance);
    balancer.setTargets(instances.map(({ url }) => url));
    return instance;
  }

  async function tryToIssue(): Promise<string | undefined> {
    turn += 1;
    const url = instances[turn % instances.length]?.url ?? "";
    const response = await postLogin(url).catch(() => undefined);
    if (response?.status !== 200) return undefined;
    return ((await response.json()) as { access_token: string }).access_token;
  }

  return {
    database,
    issuer: balancer.url,
    instances,
    start,
    async kill(instance) {
      await instance.stop("SIGKILL");
      instances.splice(instances.indexOf(instance), 1);
      balancer.setTargets(instances.map(({ url }) => url));
      await database.pool.query(
        "update keyfleet.instances set heartbeat_at = heartbeat_at - interval '61 s' where id = $1",
        [instance.instanceId],
      );
    },
    async issue() {
      let token: string | undefined;
      await eventually(async () => {
        token = await tryToIssue();
        return token !== undefined;
      });
      kids.add(String(decodeProtectedHeader(token ?? "").kid));
      return token ?? "";
    },
    async owners() {
      const { rows } = await database.pool.query<{ kid: string; owner: string }>(
        "select kid, instance_id as owner from keyfleet.signing_keys where kid = any ($1)",
        [[...kids]],
      );
      return new Map(rows.map(({ kid, owner }) => [kid, owner]));
    },
    async total(metric) {
      const values = await Promise.all(instances.map((instance) => readMetric(instance, metric)));
      return values.reduce((sum, value) => sum + value, 0);
    },
    async close() {
      await Promise.all(instances.map((instance) => instance.stop("SIGKILL")));
      await balancer.close();
      await database.drop();
    },
  };
}
