/** The two sides of a loan put together for one instance: it borrows while its keys are new, and lends once they are not. */

import type { FleetClock } from "./clock.ts";
import type { Config } from "./config.ts";
import type { FleetSecrets } from "./fleet-secret.ts";
import type { Directory } from "./keys/directory.ts";
import type { KeyRing } from "./keys/key-ring.ts";
import { decodeLoanMessage } from "./keys/signature-loan.ts";
import type { Logger } from "./logger.ts";
import type { Metrics } from "./metrics.ts";
import type { Pool } from "./postgres/pool.ts";
import { createSignatureLoanStore } from "./postgres/signature-loans.ts";
import { createOutcomeReporter } from "./report.ts";
import { createLendSignature } from "./sessions/lend-signature.ts";
import { createSignatureBorrower, type SignatureBorrower } from "./tokens/borrow-signature.ts";

export interface SignatureLoans {
  readonly borrower: SignatureBorrower;
  /** What came over this instance's channel. */
  onMessage(text: string): void;
}

export function createSignatureLoans(deps: {
  readonly config: Config;
  readonly issuer: string;
  readonly instanceId: string;
  readonly pool: Pool;
  readonly secrets: FleetSecrets;
  readonly clock: FleetClock;
  readonly ring: KeyRing;
  readonly directory: Directory;
  readonly logger: Logger;
  readonly metrics: Metrics;
  isHearing(): boolean;
}): SignatureLoans {
  const { config, secrets, clock, ring, directory, logger, metrics } = deps;
  const store = createSignatureLoanStore(deps.pool);
  const reportLending = createOutcomeReporter(logger, "lending signatures");
  const reportBorrowing = createOutcomeReporter(logger, "borrowing signatures");
  const count = (outcome: string) => metrics.signatureLoans.inc({ outcome });
  const borrower = createSignatureBorrower({
    instanceId: deps.instanceId,
    alg: config.signingAlg,
    clock,
    directory,
    secrets,
    post: store,
    propagationDelayMs: config.keyPropagationDelayMs,
    isHearing: deps.isHearing,
    onLoan(outcome, lenderId) {
      count(outcome);
      reportBorrowing(outcome === "borrowed" ? undefined : new Error(`${outcome}: instance ${lenderId}`));
    },
  });
  const lend = createLendSignature({
    issuer: deps.issuer,
    clock,
    ring,
    secrets,
    store,
    onLent() {
      count("lent");
      reportLending();
    },
    onRefused: () => count("refused"),
    onFailure: reportLending,
  });
  return {
    borrower,
    onMessage(text) {
      const message = decodeLoanMessage(text);
      if (message?.type === "request") lend(message.jti);
      if (message?.type === "answer") borrower.onAnswer(message.jti, message.sealed);
    },
  };
}
