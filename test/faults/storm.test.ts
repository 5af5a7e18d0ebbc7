/** The storm in short: every kind of fault once, on a fleet whose times are as short as they may be. */

import { expect, test } from "@jest/globals";
import { startStorm, writeStory } from "./storm.ts";

/**
 * I9 with everything in seconds: consumers go by what they have read for 1.5 s, in place of 30 s, 60 s, 5 min and 10 min,
 * and the delay is longer by two sync intervals and a second. No shared cache stands between, whose 70 s the default has.
 */
const short = {
  propagationDelayMs: 3000,
  staleMs: 1500,
  joseCooldownMs: 1500,
  settings: {
    KEY_ROTATION_SCHEDULE: "*/6 * * * * *",
    ACCESS_TOKEN_TTL: "12s",
    VERIFY_GRACE: "2s",
    FLEET_SYNC_INTERVAL: "100ms",
    SHUTDOWN_LINGER: "4s",
    MAX_SIGNERS: "4",
  },
};

test("no fault, of any kind, has a valid token rejected or a revoked one accepted, or loses a session or a revocation", async () => {
  const storm = await startStorm({ seed: 1, instances: 3, people: 3, ...short });
  const { faults } = storm;
  try {
    await Promise.all([
      faults.start(),
      faults.loseNotifications(2500, "one"),
      faults.networkOfOne("hang", 1500),
    ]);
    await Promise.all([
      faults.terminateBackends("keyfleet-listen"),
      faults.delay(80, 1500),
      faults.networkOfOne("half-open", 1500),
      faults.pause(1000),
    ]);
    await Promise.all([faults.networkOfOne("refuse", 1000), faults.restartDatabase("stop")]);
    await Promise.all([faults.revokeKeys(), faults.kill(), faults.start(), faults.cutConnections()]);
    await faults.networkOfAll("hang", 1200);
    const acrossKeysEnd = faults.pause(7000);
    await Promise.all([faults.terminate(), faults.loseNotifications(1500, "all")]);
    await faults.restartDatabase("crash");
    await faults.networkOfAll("refuse", 800);
    await faults.terminateBackends("keyfleet%");
    await acrossKeysEnd;
    await faults.replaceAll();
    await faults.scaleTo(1);
    console.log(await storm.finish());
    if (storm.ledger.violations.length > 0)
      console.log(await writeStory(storm), storm.ledger.story.join("\n"));
    expect(storm.ledger.violations).toEqual([]);
    expect(storm.ledger.counts().get("faults that met nobody")).toBeUndefined();
  } finally {
    await storm.close();
  }
}, 180_000);
