/** Loans between simulated instances: real statements send the messages; how they arrive, and whether, is made here. */

import type { FleetClock } from "../../src/clock.ts";
import type { FleetSecrets } from "../../src/fleet-secret.ts";
import type { Directory } from "../../src/keys/directory.ts";
import type { KeyRing } from "../../src/keys/key-ring.ts";
import { decodeLoanMessage, encodeLoanMessage, type LoanPost } from "../../src/keys/signature-loan.ts";
import type { Queryable } from "../../src/postgres/pool.ts";
import { createSignatureLoanStore } from "../../src/postgres/signature-loans.ts";
import { createLendSignature } from "../../src/sessions/lend-signature.ts";
import {
  createSignatureBorrower,
  type LoanOutcome,
  type SignatureBorrower,
} from "../../src/tokens/borrow-signature.ts";
import type { VirtualTime } from "../support/virtual-time.ts";

/** One instance's end of its channel. */
interface ChannelEnd {
  isHearing(): boolean;
  /** Resolves when nothing more will follow from the message. */
  receive(text: string): Promise<void>;
}

/** Everybody's channels. */
export interface LoanOffice {
  open(instanceId: string, end: ChannelEnd): void;
  close(instanceId: string): void;
  /** Messages to a frozen instance wait until it goes on. */
  freeze(instanceId: string): void;
  thaw(instanceId: string): Promise<void>;
  /** Resolves when nothing more will follow from it soon. */
  deliver(to: string, text: string): Promise<void>;
}

export function createLoanOffice(): LoanOffice {
  const ends = new Map<string, ChannelEnd>();
  const waiting = new Map<string, string[]>();

  async function deliver(to: string, text: string): Promise<void> {
    const end = ends.get(to);
    if (end?.isHearing() !== true) return;
    const queue = waiting.get(to);
    if (queue === undefined) await end.receive(text);
    else queue.push(text);
  }

  return {
    open: (instanceId, end) => ends.set(instanceId, end),
    close: (instanceId) => ends.delete(instanceId),
    freeze: (instanceId) => waiting.set(instanceId, []),
    async thaw(instanceId) {
      const texts = waiting.get(instanceId) ?? [];
      waiting.delete(instanceId);
      for (const text of texts) await deliver(instanceId, text);
    },
    deliver,
  };
}

/** As `signature-loans.ts` does it, in virtual time: a loan of which nothing more can come is given up a second later. */
export function createSimulatedLoans(deps: {
  readonly instanceId: string;
  readonly issuer: string;
  readonly database: Queryable;
  readonly office: LoanOffice;
  readonly time: VirtualTime;
  readonly clock: FleetClock;
  readonly secrets: FleetSecrets;
  readonly ring: KeyRing;
  readonly directory: Directory;
  readonly propagationDelayMs: number;
  isHearing(): boolean;
  onLoan(outcome: LoanOutcome, lenderId: string): void;
}): SignatureBorrower {
  const { instanceId, office, time, clock, secrets, ring } = deps;
  const store = createSignatureLoanStore(deps.database);
  /** Deadlines of loans that are about to be asked for, in that order; then by `jti`. */
  const begun: (() => void)[] = [];
  const deadlines = new Map<string, () => void>();

  function giveUp(jti: string): void {
    const deadline = deadlines.get(jti);
    deadlines.delete(jti);
    deadline?.();
  }

  const post: LoanPost = {
    async send(messages) {
      for (const { message } of messages) deadlines.set(message.jti, begun.shift() as () => void);
      await store.send(messages).catch((error: unknown) => {
        for (const { message } of messages) deadlines.delete(message.jti);
        throw error;
      });
      for (const { to, message } of messages)
        void office.deliver(to, encodeLoanMessage(message)).then(() => giveUp(message.jti));
    },
  };
  const borrower = createSignatureBorrower({
    ...deps,
    alg: "EdDSA",
    post,
    startTimer(work, afterMs) {
      let isCalledOff = false;
      begun.push(() => {
        if (isCalledOff) return;
        time.pass(afterMs);
        work();
      });
      return () => {
        isCalledOff = true;
      };
    },
  });

  let lending = 0;
  let idle: (() => void)[] = [];
  function dealtWith(requests: number): void {
    lending -= requests;
    if (lending > 0) return;
    for (const resolve of idle) resolve();
    idle = [];
  }
  const lend = createLendSignature({
    issuer: deps.issuer,
    clock,
    ring,
    secrets,
    store: {
      readTokens: (jtis) => store.readTokens(jtis),
      async send(messages) {
        await store.send(messages);
        for (const { to, message } of messages) await office.deliver(to, encodeLoanMessage(message));
      },
    },
    onLent: () => dealtWith(1),
    onRefused: () => dealtWith(1),
    onFailure: () => dealtWith(lending),
  });
  office.open(instanceId, {
    isHearing: deps.isHearing,
    receive(text) {
      const message = decodeLoanMessage(text);
      if (message?.type === "answer") borrower.onAnswer(message.jti, message.sealed);
      if (message?.type !== "request") return Promise.resolve();
      lending += 1;
      const done = new Promise<void>((resolve) => idle.push(resolve));
      lend(message.jti);
      return done;
    },
  });
  return borrower;
}
