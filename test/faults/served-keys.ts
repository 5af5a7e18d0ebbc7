/** How many keys the JWKS has, now and at most. */

import { setTimeout as pause } from "node:timers/promises";

/** `url`: of an instance, or of what stands in front of a fleet. */
export async function countServedKeys(url: string): Promise<number> {
  const response = await fetch(`${url}/.well-known/jwks.json`);
  return ((await response.json()) as { keys: unknown[] }).keys.length;
}

/** `stop` returns how many there were at most. */
export function watchServedKeys(url: string): { stop(): Promise<number> } {
  let most = 0;
  let isOver = false;
  const watching = (async () => {
    while (!isOver) {
      most = Math.max(most, await countServedKeys(url));
      await pause(100);
    }
  })();
  return {
    async stop() {
      isOver = true;
      await watching;
      return most;
    },
  };
}
