import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { addAccount, eventually } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { type BadLogin, badLogins, passwordCanary, strangeButWellFormed, valueCanary } from "./bad-logins.ts";
import { sendAndHangUp, sendBytes, sendRequest } from "./raw-request.ts";
import { everything, expectRefusal, linesOf, logLines } from "./refusal.ts";

let database: TestDatabase;
let instance: TestInstance;

beforeAll(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  instance = await startInstance({
    databaseUrl: database.url,
    settings: { LOGIN_ATTEMPTS: "10000", AUDIENCES: "https://api.example" },
  });
});

afterAll(async () => {
  await instance.stop();
  await database.drop();
});

function send({ body, headers = {} }: BadLogin, requestId: string) {
  return sendRequest(instance.url, "/login", {
    method: "POST",
    headers: { ...headers, "x-request-id": requestId },
    body,
  });
}

const cases = [...badLogins, ...strangeButWellFormed].map((bad, index) => ({ ...bad, index }));

describe("a login is refused, with nothing told of what was sent:", () => {
  test.each(cases)("$name: $status $error", async (bad) => {
    const requestId = `case-${bad.index}`;
    const answer = await send(bad, requestId);
    const description = expectRefusal(answer, bad.status, bad.error);
    expect(description).not.toMatch(/ at |node_modules|src\/|Error|Unexpected token/);
    expect(everything(answer)).not.toContain(passwordCanary);
    expect(everything(answer)).not.toContain(valueCanary);
    expect(answer.headers["x-request-id"]).toBe(requestId);
    expect(instance.process.exitCode).toBeNull();
  });
});

test("whatever is sent to log in, the log has one line of JSON for it, without the name and the password", async () => {
  for (const bad of cases) await send(bad, `logged-${bad.index}`);
  const last = `logged-${cases.length - 1}`;
  await eventually(() => linesOf(instance, last).length > 0);
  for (const bad of cases) {
    expect(linesOf(instance, `logged-${bad.index}`)).toEqual([
      expect.objectContaining({ msg: "request", method: "POST", path: "/login", status: bad.status }),
    ]);
  }
  expect(instance.output()).not.toContain(passwordCanary);
  expect(instance.output()).not.toContain(valueCanary);
  expect(logLines(instance).filter(({ level }) => level !== "info" && level !== "warn")).toEqual([]);
});

test("the connection ends with a body over 16 KiB: nothing within it is taken for a request", async () => {
  const body = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
  const head = `POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}`;
  const answer = await sendBytes(instance.url, `${head}\r\n\r\n${body}`);
  expect(answer).toMatch(/^HTTP\/1\.1 413 .*\r\nConnection: close\r\n/s);
  expect(answer.match(/HTTP\/1\.1 /g)).toHaveLength(1);
});

test("a login that its client gives up is logged as that, and not as a database that is away", async () => {
  const requestId = "given-up";
  const headerLines = [
    "POST /login HTTP/1.1",
    "Content-Type: application/json",
    "Content-Length: 100",
    `X-Request-Id: ${requestId}`,
  ];
  await sendAndHangUp(instance.url, headerLines, '\r\n{"username"');
  await eventually(() => linesOf(instance, requestId).some(({ msg }) => msg === "request"));
  expect(linesOf(instance, requestId)).toEqual([
    expect.objectContaining({ status: 499, address: "127.0.0.1", msg: "request" }),
  ]);
});

test("an error that nobody foresaw is a bare server_error to the caller, and in the log with its cause", async () => {
  const rename = (from: string, to: string) =>
    database.pool.query(`alter table keyfleet.accounts rename column ${from} to ${to}`);
  await rename("scopes", "lost_column");
  try {
    const body = JSON.stringify({ username: valueCanary, password: passwordCanary });
    const headers = { "content-type": "application/json", "x-request-id": "unforeseen" };
    const answer = await sendRequest(instance.url, "/login", { method: "POST", headers, body });
    expect(expectRefusal(answer, 500, "server_error")).toBe("Something went wrong here.");
    expect(everything(answer)).not.toMatch(/scopes|column|42703/);
    await eventually(() => linesOf(instance, "unforeseen").length === 2);
    expect(linesOf(instance, "unforeseen")).toEqual([
      expect.objectContaining({ level: "error", err: expect.objectContaining({ code: "42703" }) }),
      expect.objectContaining({ level: "info", status: 500 }),
    ]);
    expect(instance.output()).not.toContain(passwordCanary);
  } finally {
    await rename("lost_column", "scopes");
  }
});
