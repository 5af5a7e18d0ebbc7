/** An instance without HTTP and without passwords: its own connections, clock, key ring and stores, in this process. */

import type { Account } from "../../src/accounts/account.ts";
import { type AccountManagement, createAccountManagement } from "../../src/accounts/manage-accounts.ts";
import type { PasswordHasher } from "../../src/accounts/password-hasher.ts";
import { createPasswordPolicy } from "../../src/accounts/password-policy.ts";
import { createFleetClock, hourMs, minuteMs, monotonicClock } from "../../src/clock.ts";
import { createInstance } from "../../src/fleet/instance.ts";
import { createKeyRing } from "../../src/keys/key-ring.ts";
import { sealPublication } from "../../src/keys/published-key.ts";
import { generateSigningKey } from "../../src/keys/signing-key.ts";
import { createAccountStore } from "../../src/postgres/accounts.ts";
import { createFleetStateReader } from "../../src/postgres/fleet-state.ts";
import { createInstanceStore } from "../../src/postgres/instances.ts";
import { commandTimeouts, createPool, endPool } from "../../src/postgres/pool.ts";
import { createSessionStore } from "../../src/postgres/sessions.ts";
import { createPublishedKeyStore } from "../../src/postgres/signing-keys.ts";
import { firstPartyClientId, type TokenResponse } from "../../src/protocol/oauth.ts";
import { createEndSession, type EndSession } from "../../src/sessions/end-session.ts";
import { createRefreshSession } from "../../src/sessions/refresh-session.ts";
import { createStartSession } from "../../src/sessions/start-session.ts";
import { createTokenIssuer } from "../../src/tokens/issuing.ts";
import { testActing, testSecrets } from "../support/accounts.ts";
import { noLenders } from "../support/no-lenders.ts";

export interface InProcessInstance {
  /** What a login does once the password was found right: with the account as it was read then. */
  login(account: Account): Promise<TokenResponse>;
  refresh(refreshToken: string): Promise<TokenResponse>;
  readonly endSession: EndSession;
  readonly accounts: AccountManagement;
  close(): Promise<void>;
}

const issuer = "https://id.example";
const verifyGraceMs = minuteMs;
const origin = { address: "192.0.2.1", addressBlock: "192.0.2.1", userAgent: "test" };

export async function createInProcessInstance(
  databaseUrl: string,
  hasher: PasswordHasher,
): Promise<InProcessInstance> {
  const pool = createPool({
    url: databaseUrl,
    max: 12,
    // A slow machine is to be waited for: no racer may drop out.
    timeouts: { ...commandTimeouts, connectMs: commandTimeouts.statementMs },
    onError: () => undefined,
  });
  const instance = createInstance();
  await createInstanceStore(pool).register(instance);
  const clock = createFleetClock(monotonicClock);
  const sentAtMs = monotonicClock.nowMs();
  const { databaseMs } = await createFleetStateReader(pool)();
  clock.observe({ sentAtMs, receivedAtMs: monotonicClock.nowMs(), databaseMs });
  const ring = createKeyRing({ clock, verifyGraceMs, propagationDelayMs: 0 });

  const signingKey = generateSigningKey("EdDSA");
  const publishedAtMs = Math.round(clock.nowMs());
  const retiresAtMs = publishedAtMs + hourMs;
  const publication = {
    ...{ kid: signingKey.kid, x: signingKey.x, alg: signingKey.alg, instanceId: instance.id },
    ...{ publishedAtMs, activatesAtMs: publishedAtMs, retiresAtMs, expiresAtMs: retiresAtMs + hourMs },
  };
  const seal = sealPublication(testSecrets, publication);
  const published = await createPublishedKeyStore(pool).publish(publication, seal, {
    maxSigners: 16,
    madeAtMs: publishedAtMs,
  });
  if (published.outcome !== "published") throw new Error(`the key was not published: ${published.outcome}`);
  ring.add(signingKey, published.key, publishedAtMs);

  const settings = {
    ...{ instanceId: instance.id, issuer, propagationDelayMs: 0, accessTokenTtlMs: minuteMs, verifyGraceMs },
    ...{ refreshTokenTtlMs: hourMs, sessionTtlMs: hourMs, refreshGraceMs: minuteMs },
  };
  const store = createSessionStore(pool, settings);
  const accountStore = createAccountStore(pool);
  const tokens = createTokenIssuer({
    clock,
    signer: ring,
    borrower: noLenders,
    settings,
    isCurrent: async () => true,
    onIssued: () => undefined,
  });
  const sessions = { store, secrets: testSecrets, tokens, settings };
  const startSession = createStartSession(sessions);
  const refreshSession = createRefreshSession({
    ...sessions,
    audit: { record: () => undefined },
    onForgedSession: (sessionId) => {
      throw new Error(`the row of session ${sessionId} is not as it was sealed`);
    },
    onReused: () => undefined,
  });
  const policy = createPasswordPolicy({ minLengthCodePoints: 15, commonPasswords: new Set() });
  const manage = () =>
    createAccountManagement({ store: accountStore, secrets: testSecrets, hasher, policy, who: testActing });

  return {
    login: (account) =>
      startSession({
        account,
        clientId: firstPartyClientId,
        audience: issuer,
        scopes: account.scopes,
        origin,
      }),
    refresh: (refreshToken) =>
      refreshSession({ refreshToken, clientId: firstPartyClientId, scopes: undefined, who: testActing }),
    endSession: createEndSession({
      store,
      secrets: testSecrets,
      accounts: accountStore,
      manageAccounts: manage,
    }),
    accounts: manage(),
    async close() {
      ring.dropAll();
      await endPool(pool);
    },
  };
}
