/** What the endpoints call: accounts, clients, sessions and tokens on their stores, for one instance. */

import { readFileSync } from "node:fs";
import { createAuthentication } from "./accounts/authenticate.ts";
import { createLoginThrottle } from "./accounts/login-throttle.ts";
import { createAccountManagement } from "./accounts/manage-accounts.ts";
import type { PasswordHasher } from "./accounts/password-hasher.ts";
import {
  commonPasswordsUrl,
  createPasswordPolicy,
  parseCommonPasswords,
} from "./accounts/password-policy.ts";
import type { Acting } from "./audit.ts";
import { createClientAuthentication } from "./clients/client-authentication.ts";
import type { Config } from "./config.ts";
import type { FleetSecrets } from "./fleet-secret.ts";
import { createAddressFilter } from "./http/address.ts";
import { createBearerAuthentication } from "./http/bearer-authentication.ts";
import { createClientIdentification } from "./http/identify-client.ts";
import type { Endpoints } from "./http/routes.ts";
import type { FleetMembership } from "./join-fleet.ts";
import type { Logger } from "./logger.ts";
import type { Metrics } from "./metrics.ts";
import { createAccountStore } from "./postgres/accounts.ts";
import { createAuditWriter } from "./postgres/audit-events.ts";
import { createClientStore } from "./postgres/clients.ts";
import { createIssuedTokenStore } from "./postgres/issued-tokens.ts";
import { createAttemptCounters } from "./postgres/login-attempts.ts";
import { createSessionStore } from "./postgres/sessions.ts";
import { createForgedRowReporter, createForgeryReporter, createIssueReporter } from "./report.ts";
import { createCheckAccessToken } from "./sessions/check-access-token.ts";
import { createEndSession } from "./sessions/end-session.ts";
import { createIssueClientToken } from "./sessions/issue-client-token.ts";
import { createRefreshSession } from "./sessions/refresh-session.ts";
import { createRevokeToken } from "./sessions/revoke-token.ts";
import { createStartSession } from "./sessions/start-session.ts";
import { createTokenIssuer } from "./tokens/issuing.ts";
import { createVerifyAccessToken } from "./tokens/verify-access-token.ts";

export interface ServiceOptions {
  readonly config: Config;
  readonly secrets: FleetSecrets;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly fleet: FleetMembership;
  readonly hasher: PasswordHasher;
  readonly issuer: string;
}

export type Services = Pick<
  Endpoints,
  "login" | "token" | "logout" | "revoke" | "introspect" | "account" | "password"
> & {
  /** Writes what waits to be written. */
  close(): Promise<void>;
};

export function createServices(options: ServiceOptions): Services {
  const { config, secrets, metrics, fleet, hasher, issuer, logger } = options;
  const { pool, clock, ring, directory, instanceId } = fleet;
  const settings = {
    instanceId,
    issuer,
    propagationDelayMs: config.keyPropagationDelayMs,
    accessTokenTtlMs: config.accessTokenTtlMs,
    verifyGraceMs: config.verifyGraceMs,
    refreshTokenTtlMs: config.refreshTokenTtlMs,
    sessionTtlMs: config.sessionTtlMs,
    refreshGraceMs: config.refreshGraceMs,
  };
  const onForgedRow = createForgedRowReporter(logger, metrics);
  const audit = createAuditWriter(pool, (count) => metrics.auditLosses.inc(count));
  const accounts = createAccountStore(pool);
  const clients = createClientStore(pool);
  const sessions = createSessionStore(pool, settings);
  const policy = createPasswordPolicy({
    minLengthCodePoints: config.passwordMinLength,
    commonPasswords: parseCommonPasswords(readFileSync(commonPasswordsUrl, "utf8")),
  });
  const manageAccounts = (who: Acting) =>
    createAccountManagement({ store: accounts, secrets, hasher, policy, who });
  const limits = { attempts: config.loginAttempts, windowMs: config.loginWindowMs };
  const authentication = createAuthentication({
    store: accounts,
    secrets,
    throttle: createLoginThrottle(createAttemptCounters(pool, limits), secrets),
    hasher,
    onForgedAccount: (accountId) => onForgedRow("account", accountId),
    onUpgradeFailed: (error) => logger.warn({ err: error }, "a better password hash could not be stored"),
  });
  const reportIssue = createIssueReporter(logger, metrics);
  const tokens = createTokenIssuer({
    clock,
    signer: ring,
    borrower: fleet.loans.borrower,
    settings,
    isCurrent: fleet.sync.isCurrent,
    onIssued: (_issued, key) => reportIssue(key),
  });
  const { clockToleranceMs } = config;
  const verify = createVerifyAccessToken({
    issuer,
    alg: config.signingAlg,
    directory,
    isCurrent: fleet.sync.isCurrent,
    clock,
    clockToleranceMs,
  });
  const check = createCheckAccessToken({
    verify,
    store: createIssuedTokenStore(pool),
    audit,
    confirmRecords: () => fleet.confirmRecords(),
    onForgery: createForgeryReporter(logger, metrics, async (kid) => {
      if (config.forgeryResponse === "alarm") return;
      const found = directory.find(kid);
      if (found.status === "unknown") return;
      const who = { actor: `instance:${instanceId}`, instanceId, address: null };
      await fleet.keys.revokeInstanceKeys(found.key.instanceId, false, "forged_token", who);
    }),
  });
  const sessionDependencies = { store: sessions, secrets, tokens, settings };
  const bearer = createBearerAuthentication({ check, issuer, instanceId });
  const identification = createClientIdentification({
    authenticateClient: createClientAuthentication({
      store: clients,
      secrets,
      onForgedClient: (clientId) => onForgedRow("client", clientId),
    }),
    store: clients,
    audit,
    instanceId,
  });
  const isIssueAddress = createAddressFilter(config.issueAllowedCidrs);

  return {
    login: {
      instanceId,
      authentication,
      clients: identification,
      startSession: createStartSession(sessionDependencies),
      audit,
      // The default first; the issuer itself is always one.
      audiences: [...new Set([...config.audiences, issuer])],
      isIssueAddress,
      onOutcome: (outcome) => metrics.logins.inc({ outcome }),
    },
    token: {
      instanceId,
      clients: identification,
      refreshSession: createRefreshSession({
        ...sessionDependencies,
        audit,
        onForgedSession: (sessionId) => onForgedRow("session", sessionId),
        onReused: () => metrics.refreshReuses.inc(),
      }),
      issueClientToken: createIssueClientToken(sessionDependencies),
      isIssueAddress,
      onOutcome: (grantType, outcome) => metrics.tokenRequests.inc({ grant_type: grantType, outcome }),
    },
    logout: {
      instanceId,
      bearer,
      endSession: createEndSession({ store: sessions, secrets, accounts, manageAccounts }),
    },
    revoke: {
      instanceId,
      clients: identification,
      revokeToken: createRevokeToken({ store: sessions, secrets, check }),
    },
    introspect: { instanceId, clients: identification, check },
    account: {
      instanceId,
      bearer,
      accounts,
      sessions,
      secrets,
      onForgedAccount: (accountId) => onForgedRow("account", accountId),
    },
    password: { instanceId, bearer, accounts, authentication, manageAccounts, audit },
    close: () => audit.close(),
  };
}
