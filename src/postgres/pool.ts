/** The connection pool: short timeouts, so that a database that is away is noticed within two seconds. */

import pg from "pg";

export type Pool = pg.Pool;

/** What a store needs of a pool or of one connection of it. */
export interface Queryable {
  query<Row extends pg.QueryResultRow>(
    text: string,
    values?: readonly unknown[],
  ): Promise<pg.QueryResult<Row>>;
}

export interface PoolTimeouts {
  /** For a free connection, a new one included. */
  readonly connectMs: number;
  /** For one statement, at both ends. */
  readonly statementMs: number;
}

/** A login's statement and the wait for its connection together stay under two seconds. */
export const servingTimeouts: PoolTimeouts = { connectMs: 800, statementMs: 1000 };
/** For commands, whose user would rather wait. */
export const commandTimeouts: PoolTimeouts = { connectMs: 5000, statementMs: 30_000 };

const int8Oid = 20;
const timestamptzOid = 1184;

/**
 * Every timestamptz arrives as milliseconds since 1970, every bigint as a number (all of ours are safe ones). A reading
 * of the clock has microseconds: they are rounded as a column of milliseconds rounds them, or for one token in 2,000 the
 * time that was returned and the time that is on record would be of two seconds.
 */
export const typeParsers: pg.CustomTypesConfig = {
  getTypeParser(oid: number, format?: "text" | "binary") {
    if (format !== "binary" && oid === int8Oid) return Number;
    const parse = pg.types.getTypeParser(oid, format);
    if (format !== "binary" && oid === timestamptzOid)
      return (text: string) => Number(parse(text)) + (/\.\d{3}[5-9]/.test(text) ? 1 : 0);
    return parse;
  },
} as pg.CustomTypesConfig;

/** At most `max` connections. An idle connection that breaks is reported to `onError` and replaced when needed. */
export function createPool(options: {
  readonly url: string;
  readonly max: number;
  readonly timeouts: PoolTimeouts;
  readonly onError: (error: Error) => void;
}): Pool {
  const { statementMs, connectMs } = options.timeouts;
  const pool = new pg.Pool({
    connectionString: options.url,
    application_name: "keyfleet",
    max: options.max,
    types: typeParsers,
    connectionTimeoutMillis: connectMs,
    query_timeout: statementMs,
    statement_timeout: statementMs,
    lock_timeout: Math.floor(statementMs * 0.9),
    idle_in_transaction_session_timeout: statementMs * 2,
    keepAlive: true,
    keepAliveInitialDelayMillis: 5000,
  });
  pool.on("error", options.onError);
  return pool;
}

/** The parameter for a timestamptz: whole milliseconds since 1970. */
export function timestamp(timeMs: number): string {
  return new Date(Math.round(timeMs)).toISOString();
}

/** The parameter for an interval. In seconds: before PostgreSQL 15 no number in it may go beyond 31 bits. */
export function interval(durationMs: number): string {
  return `${Math.round(durationMs) / 1000} seconds`;
}

/** Whether the error says that the database cannot be reached or cannot serve now, rather than that we erred. */
export function isDatabaseAway(error: unknown): boolean {
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  if (typeof code === "string" && awayCodes.test(code)) return true;
  return typeof message === "string" && awayMessages.test(message);
}

/** Undefined table, schema or function: an instance that listens before the schema is there. */
export function isSchemaMissing(error: unknown): boolean {
  const { code } = (error ?? {}) as { code?: unknown };
  return code === "42P01" || code === "3F000" || code === "42883";
}

/**
 * Connection exceptions, refused authorization, no such database, operator intervention, insufficient resources, lock
 * and statement timeouts; sockets.
 */
const awayCodes =
  /^(08|57P|53|28)|^(57014|55P03|40001|40P01|25P03|25006|3D000)$|^(ECONN[A-Z]+|ENOTFOUND|EAI_AGAIN|EPIPE|ETIMEDOUT|E(HOST|NET)(UNREACH|DOWN))$/;
const awayMessages =
  /timeout|Connection terminated|Client has encountered a connection error|Cannot use a pool/i;

/** Ends a pool without waiting for a server that does not answer. */
export async function endPool(pool: Pool): Promise<void> {
  const patience = new Promise<void>((resolve) => setTimeout(resolve, 1000).unref());
  await Promise.race([pool.end().catch(() => undefined), patience]);
}
