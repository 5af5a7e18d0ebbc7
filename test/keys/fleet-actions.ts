/** What an action of a plan does to a simulated fleet. */

import type { Action, RaceStep, Span } from "./fleet-plan.ts";
import type { SimulatedFleet } from "./simulated-fleet.ts";
import type { SimulatedInstance } from "./simulated-instance.ts";

const mostInstances = 5;

function spanMs(fleet: SimulatedFleet, of: Span, share: number): number {
  const { syncIntervalMs, accessTokenTtlMs, schedule } = fleet.settings;
  const { startMs, endMs } = schedule.periodAt(fleet.nowMs());
  const spans = {
    interval: syncIntervalMs,
    second: 1000,
    period: endMs - startMs,
    lifetime: accessTokenTtlMs,
  };
  return share * spans[of];
}

/** Those that need an instance do nothing where none is alive. */
export async function perform(fleet: SimulatedFleet, action: Action): Promise<void> {
  const instance = "at" in action ? pick(fleet.live(), action.at) : undefined;
  if ("at" in action && instance === undefined) return;
  const chosen = instance as SimulatedInstance;
  switch (action.do) {
    case "start":
      return fleet.live().length < mostInstances ? fleet.start(action.jitter, action.slowMs) : undefined;
    case "kill":
      return fleet.kill(chosen);
    case "stop":
      return fleet.stop(chosen);
    case "end": {
      const ended = pick(fleet.all(), action.which);
      return ended === undefined || ended === chosen ? undefined : fleet.end(chosen, ended);
    }
    case "login":
      chosen.link.holdUpNextStatement(action.heldUpMs ?? 0);
      return fleet.login(chosen);
    case "loginAll":
      for (const each of fleet.live()) await fleet.login(each);
      return;
    case "cut":
      return fleet.cut(chosen, action);
    case "cutAll":
      return fleet.cutAll();
    case "mend":
      return fleet.mend(chosen);
    case "mendAll":
      return fleet.mendAll();
    case "advance":
      return fleet.advance(spanMs(fleet, action.of, action.share));
    case "boundary": {
      const { endMs } = fleet.settings.schedule.periodAt(fleet.nowMs());
      return fleet.advance(Math.max(0, endMs + action.offsetMs - fleet.nowMs()));
    }
    case "freeze":
      return freeze(fleet, chosen, action);
    case "lose":
      return fleet.loseNewestRows(action.newest);
    case "race":
      return race(fleet, action);
  }
}

async function freeze(
  fleet: SimulatedFleet,
  instance: SimulatedInstance,
  { of, share, clockStops, endedBy }: Extract<Action, { do: "freeze" }>,
): Promise<void> {
  const frozenMs = spanMs(fleet, of, share);
  if (clockStops) fleet.suspendClock(instance, frozenMs);
  const by = endedBy === null ? undefined : pick(fleet.live(), endedBy);
  if (by !== undefined && by !== instance) await fleet.end(by, instance);
  fleet.freeze(instance);
  await fleet.advance(frozenMs / 2);
  for (const each of fleet.live()) if (each !== instance) await fleet.login(each);
  await fleet.advance(frozenMs / 2);
  await fleet.thaw(instance);
  await fleet.login(instance);
}

function pick(instances: readonly SimulatedInstance[], index: number): SimulatedInstance | undefined {
  return instances[index % instances.length];
}

async function race(
  fleet: SimulatedFleet,
  { at, steps, waitMs, keysAreDue }: Extract<Action, { do: "race" }>,
): Promise<void> {
  if (keysAreDue) await waitForPublications(fleet);
  const live = fleet.live();
  const choose = ({ next }: RaceStep) => pick(live, at + next) as SimulatedInstance;
  const first = choose(steps[0] as RaceStep);
  const commit = first.link.slowNextCommit();
  fleet.tell(`the next commit of #${first.number} is slow:`);
  let underWay = 0;
  const done: Promise<void>[] = [];
  try {
    for (const step of steps) {
      underWay += 1;
      done.push(
        fleet[step.what](choose(step)).finally(() => {
          underWay -= 1;
        }),
      );
      await untilStill(fleet, () => underWay - (commit.isHeld() ? 1 : 0));
      await fleet.pass(waitMs / steps.length);
    }
  } finally {
    commit.release();
    await Promise.allSettled(done);
  }
  fleet.tell("the slow commit is done");
  await Promise.all(done);
}

/** By a tenth of a period every instance wants to publish; none of them has had its turn. */
async function waitForPublications(fleet: SimulatedFleet): Promise<void> {
  const { startMs, endMs } = fleet.settings.schedule.periodAt(fleet.nowMs());
  await fleet.advance(endMs - fleet.nowMs() - 1);
  await fleet.pass(1 + (endMs - startMs) / 10);
}

/** Until everything under way has ended or waits for a lock; an instance may also wait for itself, so not for ever. */
async function untilStill(fleet: SimulatedFleet, underWay: () => number): Promise<void> {
  for (let polls = 0; polls < 25 && underWay() > 0; polls += 1) {
    const blocked = await fleet.countBlocked();
    if (blocked > 0) fleet.saw("a statement waited for a lock");
    if (blocked >= underWay()) return;
  }
}
