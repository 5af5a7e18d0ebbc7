/** The storm in short: every kind of fault once, and instances that differ, on a fleet whose times are as short as they may be. */

import { expect, test } from "@jest/globals";
import { eventually } from "../support/accounts.ts";
import { countOf, faultKinds } from "./faults.ts";
import { shortPace } from "./short-pace.ts";
import { shortcomings } from "./shortcomings.ts";
import { startStorm, writeStory } from "./storm.ts";

/** Of the points where an instance may be killed one is enough here. */
const kinds = faultKinds.filter((kind) => !/^kill (?!after a refresh)/.test(kind));

/** A fifth of what a quiet machine comes to, and less. */
const bounds = {
  least: {
    ...Object.fromEntries(kinds.map((kind) => [countOf(kind), 1])),
    "tokens issued": 30,
    "tokens recorded, mature": 10,
    "tokens recorded, borrowed": 3,
    "sessions tried at the end": 5,
    "keyfleet/verifier: refusals": 20,
  },
  verificationsEach: 100,
  excusedShare: 0.3,
};

test("no fault, of any kind, has a valid token rejected or a revoked one accepted, or loses a session or a revocation", async () => {
  const storm = await startStorm({ seed: 1, instances: 3, people: 3, variety: true, ...shortPace });
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
    await Promise.all([faults.revokeKeys(), faults.kill(), faults.migrate(), faults.cutConnections()]);
    await faults.networkOfAll("hang", 1200);
    const acrossKeysEnd = faults.pause(7000);
    await Promise.all([faults.terminate(), faults.loseNotifications(1500, "all")]);
    await faults.restartDatabase("crash");
    await faults.networkOfAll("refuse", 800);
    await faults.networkOfAll("half-open", 800);
    await faults.terminateBackends("keyfleet%");
    await acrossKeysEnd;
    await faults.killAt("after a refresh");
    await faults.replaceAll();
    await faults.scaleTo(1);
    // By chance they are some ten by now, where people got to do anything.
    await eventually(() => (storm.ledger.counts().get("sessions ended") ?? 0) > 1, 30_000);
    console.log(await storm.finish());
    if (storm.ledger.violations.length > 0)
      console.log(await writeStory(storm), storm.ledger.story.join("\n"));
    expect(storm.ledger.violations).toEqual([]);
    expect(storm.ledger.counts().get("faults that met nobody")).toBeUndefined();
    expect(shortcomings(storm.ledger.counts(), storm.consumers, bounds)).toEqual([]);
  } finally {
    await storm.close();
  }
}, 180_000);
