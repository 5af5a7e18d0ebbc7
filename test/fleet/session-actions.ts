/** What may happen in the life of a person's sessions, as data: fast-check makes it up, `session-life.ts` does it. */

import fc from "fast-check";

/** Of the fleet: 0 to 2. */
type Slot = number;

/** Asked at once, with the same token. */
type Slots = readonly Slot[];

export const endings = [
  "logout by access token",
  "logout by refresh token",
  "logout of all",
  "password change",
  "password change by name",
  "disabling",
] as const;

export type Ending = (typeof endings)[number];

/** `session` picks one of those that there are, a live one where possible. */
export type Action =
  | { readonly type: "login"; readonly slot: Slot }
  | { readonly type: "refresh"; readonly session: number; readonly slots: Slots }
  /** A token `back` generations older than the current one, at once or after its grace. */
  | {
      readonly type: "replay";
      readonly session: number;
      readonly back: number;
      readonly afterGrace: boolean;
      readonly slots: Slots;
    }
  /** A refresh whose answer never arrives, and the same again at once. */
  | {
      readonly type: "lose";
      readonly session: number;
      readonly how: "client hangs up" | "instance killed";
      readonly afterMs: number;
      readonly slot: Slot;
      readonly slots: Slots;
    }
  /** Made up, of the current token's generation plus `ahead`, for a session that exists. */
  | {
      readonly type: "forge";
      readonly session: number;
      readonly ahead: number;
      readonly at: "/token" | "/logout";
      readonly slot: Slot;
    }
  /** With refreshes of the current token under way meanwhile, at `racing`. */
  | {
      readonly type: "end";
      readonly session: number;
      readonly by: Ending;
      readonly slot: Slot;
      readonly racing: Slots;
    }
  /** An instance is killed in the middle of whatever anybody has asked of it. */
  | { readonly type: "crash"; readonly slot: Slot; readonly afterMs: number };

const slot = fc.nat({ max: 2 });
const session = fc.nat({ max: 7 });
const slots = (minLength: number, maxLength: number) => fc.array(slot, { minLength, maxLength });
const afterMs = fc.nat({ max: 15 });

export const anyAction: fc.Arbitrary<Action> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ type: fc.constant("login" as const), slot }) },
  {
    weight: 7,
    arbitrary: fc.record({ type: fc.constant("refresh" as const), session, slots: slots(1, 3) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      type: fc.constant("replay" as const),
      session,
      back: fc.integer({ min: 1, max: 4 }),
      afterGrace: fc.nat({ max: 2 }).map((one) => one === 0),
      slots: slots(1, 2),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant("lose" as const),
      session,
      how: fc.constantFrom("client hangs up" as const, "instance killed" as const),
      afterMs,
      slot,
      slots: slots(1, 3),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constant("forge" as const),
      session,
      ahead: fc.integer({ min: -2, max: 1 }),
      at: fc.constantFrom("/token" as const, "/logout" as const),
      slot,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      type: fc.constant("end" as const),
      session,
      by: fc.constantFrom(...endings),
      slot,
      racing: slots(0, 2),
    }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("crash" as const), slot, afterMs }) },
);
