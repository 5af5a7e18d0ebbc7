/** The load that is reckoned for a simulated borrower is that of a real one: its statements, watched on their way. */

import { expect, test } from "@jest/globals";
import { startCountingProxy } from "../http/counting-proxy.ts";
import { addAccount } from "../support/accounts.ts";
import { freshDatabase } from "../support/database.ts";
import { startInstance } from "../support/instance.ts";
import { perSecond } from "./statement-load.ts";

const texts = {
  state: "directory_version as",
  beat: "keyfleet.beat(",
  look: "retire_lost_instances",
  place: "keyfleet.publish_key",
  probe: "pg_catalog.pg_notify",
} as const;
const watchedMs = 60_000;

test("a borrower at rest sends what is reckoned for it", async () => {
  const database = await freshDatabase();
  await addAccount(database.url);
  const counts = { state: 0, beat: 0, look: 0, place: 0, probe: 0 };
  const proxy = await startCountingProxy(database.url, (sent) => {
    for (const [kind, text] of Object.entries(texts)) {
      if (sent.includes(text)) counts[kind as keyof typeof counts] += 1;
    }
  });
  const settings = { MAX_SIGNERS: "1", FLEET_SYNC_INTERVAL: "500ms" };
  const signer = await startInstance({ databaseUrl: database.url, settings });
  const borrower = await startInstance({ databaseUrl: proxy.url, settings });
  try {
    const before = { ...counts };
    await new Promise((resolve) => setTimeout(resolve, watchedMs));
    const sent = Object.entries(counts).map(([kind, count]) => {
      const rate = (count - before[kind as keyof typeof counts]) / (watchedMs / 1000);
      return [kind, rate] as const;
    });
    const reckoned: Record<keyof typeof counts, number> = { ...perSecond, state: 2, place: 0.2 };
    for (const [kind, rate] of sent) {
      const expected = reckoned[kind as keyof typeof counts];
      // A statement more or less; places are asked for every 5 s, spread by a quarter.
      const slack = 2 / 60 + expected * (kind === "place" ? 0.35 : 0.1);
      expect([kind, rate, Math.abs(rate - expected) <= slack]).toEqual([kind, rate, true]);
    }
  } finally {
    await Promise.all([signer, borrower].map((instance) => instance.stop("SIGKILL")));
    await proxy.close();
    await database.drop();
  }
}, 120_000);
