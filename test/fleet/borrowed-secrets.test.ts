import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { type BorrowedLife, liveOnLoans, signatureOf, textsIn } from "./borrowed-life.ts";
import { canReadMemory } from "./memory-scan.ts";
import { databaseRows } from "./stored-copies.ts";
import { formsIn, sweepPieces } from "./sweep.ts";

let database: TestDatabase;
let life: BorrowedLife;

beforeAll(async () => {
  database = await freshDatabase();
  life = await liveOnLoans(database, { logins: 6, readsMemory: canReadMemory() });
});
afterAll(async () => {
  await life.close();
  await database.drop();
});

test("of a borrowed signature, its token and the key that made it, nothing is readable in any notification", async () => {
  const heard = life.notifications.join("\n");
  expect(life.notifications.length).toBeGreaterThanOrEqual(2 * life.answers.length);
  expect(formsIn(life.secrets, heard)).toEqual([]);
  expect(textsIn(life.texts, heard)).toEqual([]);

  const token = life.answers[0]?.access_token ?? "";
  await life.leak(token);
  await life.leak(signatureOf(token).toString("hex"));
  expect(formsIn(life.secrets, life.notifications.join("\n"))).toEqual(
    expect.arrayContaining(["base64url", "hex"]),
  );
  expect(textsIn(life.texts, life.notifications.join("\n"))).toHaveLength(2);
});

test("nor in any row or log line", async () => {
  expect(life.output.length).toBeGreaterThan(2000);
  expect(formsIn(life.secrets, life.output)).toEqual([]);
  expect(textsIn(life.texts, life.output)).toEqual([]);
  expect(await sweepPieces(life.secrets, databaseRows(database.pool))).toEqual([]);
  for await (const { place, bytes } of databaseRows(database.pool)) {
    expect([place, textsIn(life.texts, bytes)]).toEqual([place, []]);
  }

  const token = life.answers[0]?.access_token ?? "";
  await life.log(token);
  expect(formsIn(life.secrets, life.output)).toContain("base64url");
  expect(textsIn(life.texts, life.output)).toHaveLength(2);
  await database.pool.query("create table canary as select $1::bytea as raw", [signatureOf(token)]);
  expect(await sweepPieces(life.secrets, databaseRows(database.pool))).toEqual(["table public.canary: hex"]);
});
