/** What pg_dump and pg_dumpall write of a database that lives: all rows, and no secret (I4). */

import { execFile } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { decodeJwt, decodeProtectedHeader } from "jose";
import { type BorrowedLife, liveOnLoans, signatureOf, textsIn } from "../fleet/borrowed-life.ts";
import { canReadMemory } from "../fleet/memory-scan.ts";
import { formsIn, searchFor } from "../fleet/sweep.ts";
import { alice } from "../support/accounts.ts";
import { debianBinaries, openDebianCluster } from "../support/debian-postgres.ts";
import { type OwnServer, startOwnServer } from "../support/own-server.ts";

const describeWithDebian = debianBinaries === undefined ? describe.skip : describe;

/** Each command, and what nothing but its own kind of dump has. The archive is not compressed: it is searched. */
const kinds = [
  { command: "pg_dump", sign: "\nCOPY keyfleet.sessions (" },
  { command: "pg_dump --inserts", sign: "\nINSERT INTO keyfleet.sessions VALUES (" },
  { command: "pg_dump --format=custom --compress=0", sign: "PGDMP" },
  { command: "pg_dumpall", sign: "\nCREATE ROLE postgres;" },
];

describeWithDebian("a dump of the database (needs Debian's postgresql on this machine)", () => {
  let server: OwnServer;
  let life: BorrowedLife;

  beforeAll(async () => {
    server = await startOwnServer({ open: openDebianCluster });
    life = await liveOnLoans(server, { logins: 10, readsMemory: canReadMemory() });
  });
  afterAll(async () => {
    await life.close();
    await server.remove();
  });

  async function dumpBy(command: string): Promise<Buffer> {
    const [program = "", ...flags] = command.split(" ");
    const { stdout } = await promisify(execFile)(
      path.join(debianBinaries?.folder ?? "", "bin", program),
      [...flags, "--no-password", `--dbname=${server.url}`],
      // pg_dumpall connects again, for each database, and takes no password for that from its arguments.
      {
        encoding: "buffer",
        maxBuffer: 2 ** 30,
        env: { PGPASSWORD: new URL(server.url).password },
      },
    );
    return stdout;
  }

  /** Of every login and refresh something that a row keeps. */
  function storedTexts(): readonly string[] {
    const ofTokens = life.answers.flatMap(({ access_token, session_id }) => [
      session_id,
      decodeJwt(access_token).jti,
      decodeProtectedHeader(access_token).kid,
    ]);
    return [alice.username, ...new Set(ofTokens)].map(String);
  }

  test.each(kinds)(
    "by $command has every session and token's record, and no signature, token, password or key",
    async ({ command, sign }) => {
      const dump = await dumpBy(command);
      expect(dump.includes(sign)).toBe(true);
      expect(storedTexts().filter((text) => !dump.includes(text))).toEqual([]);
      expect(formsIn(life.secrets, dump)).toEqual([]);
      expect(textsIn(life.texts, dump)).toEqual([]);
    },
  );

  describe("where somebody has put them there", () => {
    const signatures = () => life.answers.map(({ access_token }) => signatureOf(access_token));

    beforeAll(async () => {
      const [first, second] = signatures();
      await server.pool.query("create table bytes as select $1::bytea as bytes", [first]);
      await server.pool.query("create table hex as select encode($1::bytea, 'hex') as hex", [second]);
      await server.pool.query("create table texts as select unnest($1::text[]) as text", [life.texts]);
    });

    test.each(kinds)("by $command has them", async ({ command }) => {
      const dump = await dumpBy(command);
      // Whatever the kind of dump, bytea are written as \x and hexadecimal digits: none has raw bytes.
      for (const signature of signatures().slice(0, 2))
        expect(formsIn(searchFor([signature.subarray(0, 32)]), dump)).toContain("hex");
      expect(formsIn(life.secrets, dump)).toEqual(expect.arrayContaining(["base64url", "hex"]));
      expect(textsIn(life.texts, dump)).toHaveLength(life.texts.length);
    });
  });
});
