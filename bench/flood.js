/** A thread of its own that sends tokens at a steady pace over many connections, whatever the answers. */

import { Agent, get } from "node:http";
import { parentPort, workerData } from "node:worker_threads";

const { port, tokens, perSecond } = workerData;
const agent = new Agent({ keepAlive: true, maxSockets: 200 });
const startedAtMs = performance.now();
let sent = 0;

const timer = setInterval(() => {
  const due = ((performance.now() - startedAtMs) * perSecond) / 1000;
  for (; sent < due && sent < tokens.length; sent += 1) {
    const headers = { authorization: `Bearer ${tokens[sent]}` };
    get({ host: "127.0.0.1", port, path: "/verify", agent, headers }, (response) => response.resume()).on(
      "error",
      () => undefined,
    );
  }
}, 1);

parentPort.once("message", () => {
  clearInterval(timer);
  agent.destroy();
});
