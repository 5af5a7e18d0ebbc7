/** Which attempts are being judged in this process right now, and who waits for one of them to end. */

/** Beyond this many, nobody more waits: a flood is refused, not kept. */
const waitersMax = 100;

interface UnderWay {
  count: number;
  readonly waiters: (() => void)[];
}

export interface AttemptsUnderWay {
  begin(key: string): void;
  end(key: string): void;
  /** Resolves when an attempt of this key has ended; undefined where there is none, or too many wait already. */
  nextEnd(key: string): Promise<void> | undefined;
}

/** Each end wakes one waiter, the last end all of them: there is nobody left to wait for. */
export function createAttemptsUnderWay(): AttemptsUnderWay {
  const byKey = new Map<string, UnderWay>();

  return {
    begin(key) {
      const underWay = byKey.get(key) ?? { count: 0, waiters: [] };
      underWay.count += 1;
      byKey.set(key, underWay);
    },
    end(key) {
      const underWay = byKey.get(key);
      if (underWay === undefined) return;
      underWay.count -= 1;
      if (underWay.count === 0) byKey.delete(key);
      const woken = underWay.waiters.splice(0, underWay.count === 0 ? underWay.waiters.length : 1);
      for (const wake of woken) wake();
    },
    nextEnd(key) {
      const waiters = byKey.get(key)?.waiters;
      if (waiters === undefined || waiters.length >= waitersMax) return undefined;
      return new Promise((resolve) => waiters.push(resolve));
    },
  };
}
