/** What both ways to serve share: what they are given, and what an instance tells the process that started it. */

import type { Config, Environment } from "../config.ts";
import type { Logger } from "../logger.ts";
import type { DemoAccount } from "./banner.ts";
import type { Database } from "./workspace.ts";

export interface Serving {
  readonly config: Config;
  readonly environment: Environment;
  readonly database: Database;
  /** Where the database is the one of this folder. */
  readonly demo: DemoAccount | undefined;
  readonly showBanner: boolean;
  readonly logger: Logger;
}

/** Told to the parent process, where there is one that listens (Node's IPC channel). */
export type ServeMessage =
  | {
      readonly type: "listening";
      readonly port: number;
      readonly metricsPort: number;
      readonly issuer: string;
    }
  | { readonly type: "ready"; readonly instanceId: string };
