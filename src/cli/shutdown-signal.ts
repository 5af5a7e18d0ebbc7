/** When to end: at SIGTERM or SIGINT, or when the process that started us is gone. A second signal ends at once. */

import type { Logger } from "../logger.ts";

const parentCheckMs = 1000;
/** One Ctrl-C arrives more than once: from the terminal, and from npm or a parent that passes it on. */
const sameSignalWithinMs = 1000;

/** Resolves at the first signal. */
export interface ShutdownSignal extends Promise<void> {
  received(): boolean;
}

/** `underNpm`: npm started us, and if it is killed there is nobody left to signal us. */
export function shutdownSignal(logger: Logger, options: { readonly underNpm: boolean }): ShutdownSignal {
  let receivedAtMs: number | undefined;
  const promise = new Promise<void>((resolve) => {
    const onSignal = (reason: string) => {
      if (receivedAtMs !== undefined) {
        if (performance.now() - receivedAtMs < sameSignalWithinMs) return;
        logger.warn({ reason }, "ending at once");
        process.exit(1);
      }
      receivedAtMs = performance.now();
      logger.info({ reason }, "ending: once more to end at once");
      resolve();
    };
    process.on("SIGTERM", onSignal);
    process.on("SIGINT", onSignal);
    const onOrphaned = () => {
      if (receivedAtMs === undefined) onSignal("the parent process is gone");
    };
    process.once("disconnect", onOrphaned);
    process.channel?.unref();
    if (options.underNpm) watchParent(onOrphaned);
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
