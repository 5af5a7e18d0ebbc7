/** A TCP proxy in front of Postgres that strikes at one statement, known by a piece of its text. */

import { endTogether, startProxyServer } from "./proxy-server.ts";

/**
 * `hold`: the statement is not sent on until `release`. `swallow`: it is carried out, and its answer, that it was
 * committed, is lost; nothing more comes over that connection.
 */
export type Strike = "hold" | "swallow";

export interface Struck {
  /** Resolves when the statement is held, or when its answer was lost. */
  readonly reached: Promise<void>;
  /** Sends on what was held. */
  release(): void;
  /** Where it was not reached, it never will be. */
  cancel(): void;
}

export interface StatementProxy {
  /** The database's url, through the proxy. */
  readonly url: string;
  /** Strikes once, at the next statement whose text has this in it. */
  strikeAt(text: string, strike: Strike): Struck;
  close(): Promise<void>;
}

interface Plan {
  readonly text: string;
  readonly strike: Strike;
  reach(): void;
  held: { readonly bytes: Buffer[]; send(bytes: Buffer): void } | undefined;
}

export async function startStatementProxy(databaseUrl: string): Promise<StatementProxy> {
  const plans = new Set<Plan>();

  function takePlan(bytes: Buffer): Plan | undefined {
    const found = [...plans].find(({ text }) => bytes.includes(text));
    if (found !== undefined) plans.delete(found);
    return found;
  }

  const { url, close } = await startProxyServer(databaseUrl, (client, openUpstream) => {
    const upstream = openUpstream();
    let struck: Plan | undefined;
    endTogether(client, upstream);
    client.on("data", (bytes) => {
      struck ??= takePlan(bytes);
      if (struck?.strike === "hold") {
        struck.held ??= { bytes: [], send: (kept) => upstream.write(kept) };
        struck.held.bytes.push(bytes);
        struck.reach();
      } else upstream.write(bytes);
    });
    upstream.on("data", (bytes) => {
      if (struck?.strike === "swallow") struck.reach();
      else client.write(bytes);
    });
  });

  return {
    url,
    strikeAt(text, strike) {
      let reach = () => {};
      const reached = new Promise<void>((resolve) => {
        reach = resolve;
      });
      const plan: Plan = { text, strike, reach, held: undefined };
      plans.add(plan);
      return {
        reached,
        release() {
          for (const bytes of plan.held?.bytes.splice(0) ?? []) plan.held?.send(bytes);
        },
        cancel: () => void plans.delete(plan),
      };
    },
    close,
  };
}
