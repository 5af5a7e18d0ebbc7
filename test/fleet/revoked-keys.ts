/** Whether keys are served, and what every instance says once they are revoked. */

import { expect } from "@jest/globals";
import { eventually } from "../support/accounts.ts";
import type { TestInstance } from "../support/instance.ts";
import { readSnapshot } from "../support/revocation-stream.ts";

async function servedKids({ url }: TestInstance): Promise<string[]> {
  const response = await fetch(`${url}/.well-known/jwks.json`);
  return ((await response.json()) as { keys: { kid: string }[] }).keys.map(({ kid }) => kid);
}

export async function serves(instance: TestInstance, kids: readonly string[]): Promise<boolean> {
  const served = await servedKids(instance);
  return kids.some((kid) => served.includes(kid));
}

/** Resolves to when the last of these instances has stopped serving these keys. */
export async function goneAtMs(instances: readonly TestInstance[], kids: readonly string[]): Promise<number> {
  const times = instances.map(async (instance) => {
    const stillServed = () => serves(instance, kids).catch(() => false);
    while (await stillServed()) await new Promise((resolve) => setTimeout(resolve, 15));
    return performance.now();
  });
  return Math.max(...(await Promise.all(times)));
}

export async function expectRevoked(
  instances: readonly TestInstance[],
  kids: readonly string[],
): Promise<void> {
  for (const { url } of instances) {
    for (const kid of kids) {
      const response = await fetch(`${url}/.well-known/jwks/${kid}`);
      expect([response.status, await response.json()]).toMatchObject([410, { error: "revoked_key" }]);
    }
    // The log is read beside the keys.
    await eventually(async () => {
      const { events } = (await readSnapshot(url)).snapshot;
      return kids.every((kid) => events.some(({ type, id }) => type === "key" && id === kid));
    });
  }
}
