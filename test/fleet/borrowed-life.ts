/** A borrower's tokens, and all that they leave on their way: what was notified, and what instances wrote. */

import pg from "pg";
import { loanChannel } from "../../src/postgres/signature-loans.ts";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { decodeRefreshToken } from "../../src/tokens/refresh-token.ts";
import { addAccount, alice, eventually, login, testSecrets } from "../support/accounts.ts";
import { readMetric, startInstance, type TestInstance, testSecret } from "../support/instance.ts";
import type { Search } from "./needle-search.ts";
import { findSeeds } from "./seed-finder.ts";
import { servedKeys } from "./stock-verification.ts";
import { searchFor } from "./sweep.ts";

export interface BorrowedLife {
  readonly answers: readonly TokenResponse[];
  /** Signatures, refresh tokens' secrets, and the lender's private keys where its memory may be read, in any form. */
  readonly secrets: Search;
  /** What nobody should be able to read anywhere, as it is. */
  readonly texts: readonly string[];
  /** What came over any instance's channel. */
  readonly notifications: readonly string[];
  readonly output: string;
  /** Sends a token over a channel, as no instance does. */
  leak(token: string): Promise<void>;
  /** Has an instance log a token, as the path of a request. */
  log(token: string): Promise<void>;
  close(): Promise<void>;
}

const settings = { ISSUER: "https://id.example", MAX_SIGNERS: "1", LOG_LEVEL: "trace" };

export async function liveOnLoans(
  database: { readonly url: string; readonly pool: pg.Pool },
  options: { readonly logins: number; readonly readsMemory: boolean },
): Promise<BorrowedLife> {
  await addAccount(database.url);
  const signer = await startInstance({ databaseUrl: database.url, settings });
  const borrower = await startInstance({ databaseUrl: database.url, settings });
  const instances = [signer, borrower];
  const listening = new pg.Client({ connectionString: database.url });
  const notifications: string[] = [];
  listening.on("error", () => undefined);
  listening.on("notification", ({ payload = "" }) => notifications.push(payload));
  await listening.connect();
  for (const { instanceId } of instances) await listening.query(`listen ${loanChannel(instanceId)}`);

  const answers: TokenResponse[] = [];
  for (let count = 0; count < options.logins; count += 1) {
    const first = await login(borrower.url);
    answers.push(first, await refresh(borrower, first));
  }
  const lent = 'keyfleet_signature_loans_total{outcome="lent"}';
  // Counted once its answer is sent, which may have come before.
  await eventually(async () => (await readMetric(signer, lent)) === answers.length);

  return {
    answers,
    secrets: searchFor([
      ...answers.flatMap(secretsOf),
      ...(options.readsMemory ? await seedsOf(signer) : []),
    ]),
    texts: [
      ...answers.flatMap(({ access_token, refresh_token }) => [
        ...access_token.split(".").slice(1),
        refresh_token,
      ]),
      ...[testSecret, alice.password],
    ],
    notifications,
    get output() {
      return instances.map((instance) => instance.output()).join("\n");
    },
    async leak(token) {
      await database.pool.query("select pg_notify($1, $2)", [loanChannel(borrower.instanceId), token]);
      // Notifications come with the answer to any statement.
      await listening.query("select 1");
    },
    async log(token) {
      await fetch(`${borrower.url}/${token}`);
      await eventually(() => borrower.output().includes(token));
    },
    async close() {
      await listening.end();
      await Promise.all(instances.map((instance) => instance.stop("SIGKILL")));
    },
  };
}

async function refresh({ url }: TestInstance, { refresh_token }: TokenResponse): Promise<TokenResponse> {
  const body = new URLSearchParams({ grant_type: "refresh_token", refresh_token });
  return (await (await fetch(`${url}/token`, { method: "POST", body })).json()) as TokenResponse;
}

/** The two halves of the signature, and what makes the refresh token one. */
function secretsOf({ access_token, refresh_token }: TokenResponse): Buffer[] {
  const signature = signatureOf(access_token);
  const { secret } = decodeRefreshToken(testSecrets, refresh_token) ?? { secret: Buffer.alloc(0) };
  return [signature.subarray(0, 32), signature.subarray(32), secret];
}

export function signatureOf(token: string): Buffer {
  return Buffer.from(token.split(".")[2] ?? "", "base64url");
}

async function seedsOf(instance: TestInstance): Promise<Buffer[]> {
  const keys = [...(await servedKeys(instance)).values()].map(({ x }) => x);
  return findSeeds(instance.process.pid ?? 0, keys).map(({ seed }) => seed);
}

/** Those of the texts that are in there, each by its first characters. */
export function textsIn(texts: readonly string[], haystack: Buffer | string): readonly string[] {
  return texts.filter((text) => haystack.includes(text)).map((text) => text.slice(0, 12));
}
