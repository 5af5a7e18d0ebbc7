import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { addAccount, eventually } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { type Consumer, revocationOf, startConsumer } from "../support/revocation-stream.ts";
import { logIn, logOut } from "../support/revocations.ts";

let database: TestDatabase;
let instances: TestInstance[];
let consumers: Consumer[];

beforeEach(async () => {
  instances = [];
  consumers = [];
  database = await freshDatabase();
  await addAccount(database.url);
  // As in production: by polling alone, half of all events would be later than the bound.
  const settings = { ISSUER: "http://localhost", FLEET_SYNC_INTERVAL: "500ms", LOGIN_ATTEMPTS: "10000" };
  instances = await Promise.all([1, 2, 3].map(() => startInstance({ databaseUrl: database.url, settings })));
});
afterEach(async () => {
  for (const consumer of consumers) consumer.close();
  await Promise.all(instances.map((instance) => instance.stop("SIGKILL")));
  await database.drop();
});

const boundMs = 250;

interface Session {
  readonly id: string;
  readonly refreshToken: string;
}

async function logInMany(count: number): Promise<readonly Session[]> {
  const sessions: Session[] = [];
  const worker = async (url: string) => {
    while (sessions.length < count) {
      const token = await logIn(url);
      sessions.push({ id: token.session_id, refreshToken: token.refresh_token });
    }
  };
  await Promise.all(instances.flatMap(({ url }) => [worker(url), worker(url)]));
  return sessions;
}

/** When each session's end arrived, for each consumer. */
function connectConsumers(count: number): readonly ReadonlyMap<string, number>[] {
  const urls = instances.map(({ url }) => url);
  return Array.from({ length: count }, (_, index) => {
    const arrivals = new Map<string, number>();
    let next = index;
    consumers.push(
      startConsumer({
        nextUrl: () => urls[next++ % urls.length] ?? "",
        onEvent(event) {
          if (event.type === "revocation") arrivals.set(revocationOf(event).id, event.atMs);
        },
      }),
    );
    return arrivals;
  });
}

/** Milliseconds from each logout's 204 to its event at the consumer that got it last, in ascending order. */
async function measureMs(
  sessions: readonly Session[],
  at: readonly TestInstance[],
  arrivals: readonly ReadonlyMap<string, number>[],
): Promise<readonly number[]> {
  const answeredAtMs = new Map<string, number>();
  for (const [index, session] of sessions.entries()) {
    await logOut(at[index % at.length]?.url ?? "", session.refreshToken);
    answeredAtMs.set(session.id, performance.now());
  }
  await eventually(() => sessions.every(({ id }) => arrivals.every((seen) => seen.has(id))));
  return [...answeredAtMs]
    .map(([id, fromMs]) =>
      Math.max(0, ...arrivals.map((seen) => (seen.get(id) ?? Number.POSITIVE_INFINITY) - fromMs)),
    )
    .sort((a, b) => a - b);
}

const percentile = (sorted: readonly number[], percent: number) =>
  sorted[Math.ceil((sorted.length * percent) / 100) - 1] ?? Number.NaN;
const describeMs = (sorted: readonly number[]) =>
  [50, 99, 100].map((percent) => `p${percent} ${percentile(sorted, percent).toFixed(0)}`).join(", ");

test("a logout is at every consumer of three instances within 250 ms of its 204, also right after one of them died", async () => {
  const arrivals = connectConsumers(15);
  const [steadily, afterwards] = [200, 100];
  const sessions = await logInMany(steadily + afterwards);
  await eventually(() => consumers.every((consumer) => consumer.url() !== undefined));
  const steady = await measureMs(sessions.slice(0, steadily), instances, arrivals);

  const [dead, ...living] = instances;
  const moving = consumers.filter((consumer) => consumer.url() === dead?.url);
  expect(moving).toHaveLength(5);
  dead?.process.kill("SIGKILL");
  const afterDeath = await measureMs(sessions.slice(steadily, steadily + afterwards), living, arrivals);
  for (const consumer of moving) expect(consumer.moves()).toBeGreaterThan(0);

  console.log(
    `logout to event at 15 consumers of 3 instances, ms: ${describeMs(steady)} (${steadily} logouts); ` +
      `right after one was killed: ${describeMs(afterDeath)} (${afterwards} logouts); bound p99 ${boundMs}`,
  );
  expect(percentile(steady, 99)).toBeLessThan(boundMs);
  expect(percentile(afterDeath, 99)).toBeLessThan(boundMs);
}, 60_000);
