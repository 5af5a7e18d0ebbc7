import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { createRemoteJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify } from "jose";
import { addAccount, eventually, login } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";

/** Loaded before the program: `shiftMs` is added to everything that asks the process's own calendar. */
function preload(shiftMs: string): string[] {
  const source = `
    const RealDate = Date;
    const shiftMs = () => ${shiftMs};
    globalThis.Date = class Date extends RealDate {
      constructor(...given) { given.length === 0 ? super(RealDate.now() + shiftMs()) : super(...given); }
      static now() { return RealDate.now() + shiftMs(); }
    };`;
  return ["--import", `data:text/javascript,${encodeURIComponent(source)}`];
}

const clocks: [string, string][] = [
  ["an hour ahead", "3_600_000"],
  ["an hour behind", "-3_600_000"],
  [
    "that jumps to and fro every second",
    "(Math.floor(performance.now() / 1000) % 2 === 0 ? 3_600_000 : -3_600_000)",
  ],
];

let database: TestDatabase;
let right: TestInstance;
const settings = {
  ISSUER: "http://localhost",
  KEY_ROTATION_SCHEDULE: "*/5 * * * * *",
  ACCESS_TOKEN_TTL: "5s",
  VERIFY_GRACE: "10s",
};

beforeAll(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  right = await startInstance({ databaseUrl: database.url, settings });
});
afterAll(async () => {
  await right.stop();
  await database.drop();
});

async function databaseNowMs(): Promise<number> {
  const { rows } = await database.pool.query<{ ms: number }>(
    "select extract(epoch from clock_timestamp())::float8 * 1000 as ms",
  );
  return rows[0]?.ms ?? Number.NaN;
}

test.each(clocks)(
  "an instance with a clock %s issues tokens that are right everywhere",
  async (_, shiftMs) => {
    const skewed = await startInstance({ databaseUrl: database.url, settings, nodeFlags: preload(shiftMs) });
    try {
      const keys = createRemoteJWKSet(new URL(`${right.url}/.well-known/jwks.json`), { cooldownDuration: 0 });
      const kids = new Set<string>();
      await eventually(
        async () => {
          const beforeMs = await databaseNowMs();
          const { access_token } = await login(skewed.url);
          const afterMs = await databaseNowMs();
          const { iat = 0, nbf, exp } = decodeJwt(access_token);
          expect(iat).toBeGreaterThanOrEqual(Math.floor(beforeMs / 1000));
          expect(iat).toBeLessThanOrEqual(Math.floor(afterMs / 1000));
          expect([nbf, exp]).toEqual([iat, iat + 5]);
          await jwtVerify(access_token, keys, { issuer: "http://localhost" });
          kids.add(decodeProtectedHeader(access_token).kid ?? "");
          return kids.size === 2;
        },
        15_000,
        100,
      );
      const documents = await Promise.all(
        [skewed, right].map(async ({ url }) => (await fetch(`${url}/.well-known/jwks.json`)).text()),
      );
      expect(documents[0]).toBe(documents[1]);
    } finally {
      await skewed.stop();
    }
    // Control: the clock is really wrong, for the instance's own log lines carry it.
    const time = /"time":"([^"]+)"/.exec(skewed.output())?.[1] ?? "";
    expect(Math.abs(Date.parse(time) - (await databaseNowMs()))).toBeGreaterThan(3_000_000);
  },
  40_000,
);
