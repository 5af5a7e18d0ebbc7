/** When to end: at SIGTERM or SIGINT, or when the process that started us is gone. A second signal ends at once. */

import type { Logger } from "../logger.ts";

const parentCheckMs = 1000;
/** One Ctrl-C arrives more than once: from the terminal, and from npm or a parent that passes it on. */
const sameSignalWithinMs = 1000;
const parentIsGone = "the parent process is gone";

/** Resolves at the first signal. */
export interface ShutdownSignal extends Promise<void> {
  received(): boolean;
}

export interface ShutdownOptions {
  /** npm started us, and if it is killed there is nobody left to signal us. */
  readonly underNpm: boolean;
  /** Takes along what would otherwise go on without us. */
  readonly beforeEndingAtOnce?: () => void;
}

export function shutdownSignal(
  logger: Logger,
  { underNpm, beforeEndingAtOnce }: ShutdownOptions,
): ShutdownSignal {
  let receivedAtMs: number | undefined;
  function endAtOnce(reason: string): never {
    logger.warn({ reason }, "ending at once");
    beforeEndingAtOnce?.();
    process.exit(1);
  }
  const promise = new Promise<void>((resolve) => {
    const onSignal = (reason: string) => {
      if (receivedAtMs !== undefined) {
        if (performance.now() - receivedAtMs < sameSignalWithinMs) return;
        endAtOnce(reason);
      }
      receivedAtMs = performance.now();
      logger.info({ reason }, "ending: once more to end at once");
      resolve();
    };
    process.on("SIGTERM", onSignal);
    process.on("SIGINT", onSignal);
    process.once("disconnect", () => {
      // It passes signals on and waits for us: if it is gone after one, it was told twice, or killed.
      if (receivedAtMs !== undefined) endAtOnce(parentIsGone);
      onSignal(parentIsGone);
    });
    process.channel?.unref();
    if (underNpm) {
      watchParent(() => {
        if (receivedAtMs === undefined) onSignal(parentIsGone);
      });
    }
  });
  return Object.assign(promise, { received: () => receivedAtMs !== undefined });
}

function watchParent(onGone: () => void): void {
  const parentId = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parentId) return;
    clearInterval(timer);
    onGone();
  }, parentCheckMs);
  timer.unref();
}
