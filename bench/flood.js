/** A thread of its own that sends tokens at a steady pace over many connections, whatever the answers. */

import { randomBytes } from "node:crypto";
import { Agent, get } from "node:http";
import { parentPort, workerData } from "node:worker_threads";

const { port, token, typ, perSecond } = workerData;
const [, claims, signature] = token.split(".");
const agent = new Agent({ keepAlive: true, maxSockets: 2000 });
const startedAtMs = performance.now();
let sent = 0;
let answered = 0;

/** The token as it would be under a kid that nobody has. */
function madeUp() {
  const header = { alg: "EdDSA", typ, kid: randomBytes(32).toString("base64url") };
  return [Buffer.from(JSON.stringify(header)).toString("base64url"), claims, signature].join(".");
}

const timer = setInterval(() => {
  const due = ((performance.now() - startedAtMs) * perSecond) / 1000;
  for (; sent < due; sent += 1) {
    const headers = { authorization: `Bearer ${madeUp()}` };
    get({ host: "127.0.0.1", port, path: "/verify", agent, headers }, (response) => {
      answered += 1;
      response.resume();
    }).on("error", () => undefined);
  }
}, 1);

parentPort.once("message", () => {
  clearInterval(timer);
  parentPort.postMessage(answered);
  agent.destroy();
});
