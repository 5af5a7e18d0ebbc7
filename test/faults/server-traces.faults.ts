/** All that a Postgres keeps which logs every statement with its parameters and counts them: no secret is in it (I4). */

import { existsSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { findBinaries } from "../../src/postgres/embedded-binaries.ts";
import { type BorrowedLife, liveOnLoans, signatureOf, textsIn } from "../fleet/borrowed-life.ts";
import { canReadMemory } from "../fleet/memory-scan.ts";
import { databaseFiles, databaseRows, type StoredPiece } from "../fleet/stored-copies.ts";
import { formsIn } from "../fleet/sweep.ts";
import { type OwnServer, startOwnServer } from "../support/own-server.ts";

const { folder } = await findBinaries();
const extension = path.join(folder, "share/postgresql/extension/pg_stat_statements.control");
const describeWithStatements = existsSync(extension) ? describe : describe.skip;

describeWithStatements(
  "a server that keeps all it can (needs pg_stat_statements in the embedded package)",
  () => {
    const startedAtMs = Date.now();
    let server: OwnServer;
    let life: BorrowedLife;

    beforeAll(async () => {
      server = await startOwnServer({
        settings: {
          shared_preload_libraries: "pg_stat_statements",
          "pg_stat_statements.track": "all",
          logging_collector: "on",
          log_statement: "all",
          log_parameter_max_length: "-1",
        },
      });
      await server.pool.query("create extension pg_stat_statements");
      life = await liveOnLoans(server, { logins: 10, readsMemory: canReadMemory() });
    });
    afterAll(async () => {
      await life.close();
      await server.remove();
    });

    async function statements(): Promise<StoredPiece> {
      const { rows } = await server.pool.query<{ query: string }>(
        "select query from pg_stat_statements union all select query from pg_stat_activity where query is not null",
      );
      return { place: "statements", bytes: Buffer.from(rows.map(({ query }) => query).join("\n")) };
    }

    /** Where anything is found. `log/`, `pg_wal/`, tables, and the texts of statements are among what is looked at. */
    async function sweep(): Promise<readonly string[]> {
      const found = new Set<string>();
      async function look({ place, bytes }: StoredPiece): Promise<void> {
        for (const form of formsIn(life.secrets, bytes)) found.add(`${kindOf(place)}: ${form}`);
        if (textsIn(life.texts, bytes).length > 0) found.add(`${kindOf(place)}: text`);
      }
      await look(await statements());
      for await (const piece of databaseRows(server.pool)) await look(piece);
      for await (const piece of databaseFiles(server.pool, startedAtMs)) await look(piece);
      return [...found];
    }

    const kindOf = (place: string) => (place.startsWith("table") ? "table" : (place.split("/")[0] ?? ""));

    test("has no signature, token, password or key in tables, files, write-ahead log, log or statements; what is there is found", async () => {
      expect((await statements()).bytes.toString()).toContain("keyfleet.refresh_session(");
      expect(await sweep()).toEqual([]);
    });

    test("has them in each, where somebody puts them there", async () => {
      const token = life.answers[0]?.access_token ?? "";
      const hex = signatureOf(token).toString("hex");
      await server.pool.query("create table canary as select $1::bytea as raw, $2::text as text", [
        signatureOf(token),
        token,
      ]);
      await server.pool.query(`select 1 as one /* ${hex} */ where true`);
      expect(await sweep()).toEqual(
        expect.arrayContaining([
          "table: hex",
          "table: text",
          "base: raw",
          "pg_wal: raw",
          "log: hex",
          "log: text",
        ]),
      );
      expect(formsIn(life.secrets, (await statements()).bytes)).toContain("hex");
    });
  },
);
