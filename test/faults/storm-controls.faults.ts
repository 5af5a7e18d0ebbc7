/** Controls: with one protection taken out, a storm as quiet as that of the quick form finds what is missing, and only that. */

import { expect, test } from "@jest/globals";
import { createRemoteJWKSet, decodeJwt, errors, jwtVerify } from "jose";
import pg from "pg";
import { replaceInFunction } from "../postgres/fleet-rows.ts";
import { eventually } from "../support/accounts.ts";
import { readMetric } from "../support/instance.ts";
import type { ForeignKind } from "./consumers/foreign-consumers.ts";
import { type ViolationKind, violationKinds } from "./ledger.ts";
import { shortPace } from "./short-pace.ts";
import { type Storm, type StormOptions, startStorm } from "./storm.ts";

interface Control {
  readonly without: string;
  readonly finds: ViolationKind;
  /** What the same lack can bring about besides. */
  readonly besides?: ViolationKind;
  readonly options?: Partial<StormOptions>;
  /** The part of a function of the schema that is the protection, and what stands in its place. */
  readonly replaced?: readonly [name: string, from: RegExp, to: string];
  /** Or a statement that takes it out. */
  readonly statement?: string;
  provoke(storm: Storm): Promise<void>;
}

const signed = 'keyfleet_access_tokens_issued_total{key="mature"}';

/** One more instance after the other, each of which signs what it issues as soon as it thinks that it may. */
async function grow({ fleet }: Storm): Promise<void> {
  for (let count = 0; count < 3; count += 1) {
    const { instance } = await fleet.start();
    await eventually(async () => (await readMetric(instance, signed)) >= 5, 30_000);
  }
}

/** Or until that is not to be expected any more, which is seen in the end. */
const until = (kind: ViolationKind, { ledger }: Storm) =>
  eventually(() => ledger.violationCount(kind) > 0, 20_000).catch(() => undefined);

const nothing = /(?!)/;

/** Takes a token that it has no key for as its gateway may have checked it. Of any language. */
const trusting: ForeignKind = {
  name: "a consumer that trusts",
  defaultCooldownMs: 0,
  ...{ unknownKey: nothing, badSignature: /signature/, wrongAudience: /"aud"/ },
  start({ issuer, audience, jwksUrl }) {
    const keys = createRemoteJWKSet(jwksUrl, { cooldownDuration: 0 });
    return {
      name: trusting.name,
      staleMs: 0,
      async verify(token) {
        const { payload } = await jwtVerify(token, keys, { issuer, audience }).catch((error: unknown) => {
          if (error instanceof errors.JWKSNoMatchingKey) return { payload: decodeJwt(token) };
          throw error;
        });
        return String(payload.sub);
      },
      close: async () => undefined,
    };
  },
};

const controls: readonly Control[] = [
  {
    without: "the wait until a key has matured",
    finds: "immature signature",
    options: { settings: { ...shortPace.settings, MAX_SIGNERS: "6", KEY_PROPAGATION_DELAY: "0s" } },
    provoke: grow,
  },
  {
    without: "a wait as long as that of consumers",
    finds: "false rejection",
    options: {
      settings: { ...shortPace.settings, MAX_SIGNERS: "6" },
      ...{ propagationDelayMs: 500, staleMs: 4000 },
    },
    provoke: grow,
  },
  {
    without: "keys in the JWKS for as long as their tokens, when their instance has ended",
    finds: "false rejection",
    // Whoever does not know the key cannot revoke its tokens either.
    besides: "false acceptance",
    replaced: ["end_keys", /exists \(select from keyfleet\.issued_tokens t where t\.kid = k\.kid\)/, "false"],
    async provoke(storm) {
      await storm.faults.terminate();
      await until("false rejection", storm);
    },
  },
  {
    without: "the grace in which a refresh may be repeated",
    finds: "session lost",
    // Its tokens are refused from then on, which nobody was told.
    besides: "false rejection",
    options: { settings: { ...shortPace.settings, REFRESH_GRACE: "0s" } },
    async provoke({ faults, ledger }) {
      const refreshes = () => ledger.counts().get("refreshes") ?? 0;
      for (let count = 0; count < 5 && ledger.violationCount("session lost") === 0; count += 1) {
        await faults.networkOfAll("half-open", 1500);
        const enough = refreshes() + 8;
        await eventually(() => refreshes() >= enough, 20_000);
      }
    },
  },
  {
    without: "the log's entry of a session that ended",
    finds: "false acceptance",
    replaced: ["end_session", /perform keyfleet\.revoke\([^;]+;/, ""],
    provoke: (storm) => until("false acceptance", storm),
  },
  {
    without: "the log's entry of a token that was revoked",
    finds: "false acceptance",
    replaced: ["revoke_token", /perform keyfleet\.revoke\([^;]+;/, ""],
    provoke: (storm) => until("false acceptance", storm),
  },
  {
    without: "the log's entries of keys that were revoked",
    finds: "false acceptance",
    replaced: ["revoke_instance_keys", /perform keyfleet\.revoke\([^;]+;/, ""],
    async provoke(storm) {
      await storm.faults.revokeKeys();
      await until("false acceptance", storm);
    },
  },
  {
    without: "the end of the session itself",
    finds: "revocation lost",
    replaced: ["end_session", /update keyfleet\.sessions set ended_at[^;]+;/, ""],
    provoke: ({ ledger }) => eventually(() => (ledger.counts().get("sessions ended") ?? 0) >= 2, 60_000),
  },
  {
    without: "the attempt that is given back to who knows the password",
    finds: "unavailable",
    options: { settings: { ...shortPace.settings, LOGIN_ATTEMPTS: "4" } },
    statement: `
      create function keyfleet.keep_attempt() returns trigger language plpgsql as 'begin return old; end';
      create trigger keep_attempt before update on keyfleet.login_attempts for each row
        when (new.points < old.points) execute function keyfleet.keep_attempt()`,
    provoke: (storm) => until("unavailable", storm),
  },
  {
    without: "a consumer's look at whether the key is there",
    finds: "false acceptance",
    options: { foreign: [trusting] },
    provoke: (storm) => until("false acceptance", storm),
  },
];

test.each(controls)("without $without: $finds", async (control) => {
  const { without, finds, besides, options, provoke } = control;
  const storm = await startStorm({ seed: 1, instances: 3, people: 4, ...shortPace, ...options });
  try {
    await takeOut(storm, control);
    await eventually(() => (storm.ledger.counts().get("tokens issued") ?? 0) >= 25, 30_000);
    await provoke(storm);
    await storm.finish();
    const { violations, violationCount } = storm.ledger;
    console.log([`without ${without}: ${violations.length}, of which`, ...violations.slice(0, 3)].join("\n"));
    const found = violationKinds.filter((kind) => violationCount(kind) > 0);
    expect(found).toContain(finds);
    expect(found.filter((kind) => kind !== finds && kind !== besides)).toEqual([]);
  } finally {
    await storm.close();
  }
});

async function takeOut({ database }: Storm, { replaced, statement }: Control): Promise<void> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  if (replaced !== undefined) await replaceInFunction(client, ...replaced);
  if (statement !== undefined) await client.query(statement);
  await client.end();
}
