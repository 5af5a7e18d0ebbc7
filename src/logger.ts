/** Structured logs: JSON lines on stdout, readable text on a terminal; never a secret. */

import { createRequire } from "node:module";
import pino from "pino";

export type Logger = pino.Logger;
export type LogLevel = "trace" | "debug" | "info" | "warn" | "error" | "fatal" | "silent";

/** Backstop only: code logs names and ids, not requests or rows. */
const secretMembers = [
  "password",
  "current_password",
  "new_password",
  "access_token",
  "refresh_token",
  "token",
  "secret",
  "authorization",
  "cookie",
];

/** An error as a log tells it: a database error's `detail` would quote the row, so only these members go out. */
function serializeError(error: unknown): object {
  if (!(error instanceof Error)) return { type: typeof error };
  const { code } = error as { code?: unknown };
  const told = { type: error.name, message: error.message, stack: error.stack };
  const withCode = typeof code === "string" ? { ...told, code } : told;
  return error.cause === undefined ? withCode : { ...withCode, cause: serializeError(error.cause) };
}

/** Loaded for a person at a terminal alone: it takes a twentieth of a start. */
const loadPretty = () => createRequire(import.meta.url)("pino-pretty") as typeof import("pino-pretty");

/** `readable`: for a person at a terminal; otherwise one JSON object a line. */
export function createLogger(options: { readonly level: LogLevel; readonly readable: boolean }): Logger {
  const destination = options.readable
    ? loadPretty()({ colorize: true, ignore: "pid,hostname", sync: true })
    : pino.destination({ dest: 1, sync: true });
  return pino(
    {
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: serializeError },
      redact: { paths: secretMembers.flatMap((name) => [name, `*.${name}`]), censor: "[redacted]" },
    },
    destination,
  );
}
