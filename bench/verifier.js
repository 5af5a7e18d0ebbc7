/** The verifier: what one verification costs, and what a flood of made-up kids costs everyone else. */

import { spawn } from "node:child_process";
import { Agent, get } from "node:http";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { createRemoteJWKSet, jwtVerify } from "jose";
import { createVerifier } from "../dist/verifier/index.js";
import { account, withInstance } from "./setting.js";

const mainPath = fileURLToPath(new URL("../dist/main.js", import.meta.url));
const verifications = 20_000;
const phaseMs = 5000;
const floodPerSecond = 1000;
const floodTokens = 100_000;

async function logIn(url) {
  const response = await fetch(`${url}/login`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(account),
  });
  return (await response.json()).access_token;
}

async function microsecondsEach(work) {
  for (let count = 0; count < verifications / 10; count += 1) await work();
  const startedAtMs = performance.now();
  for (let count = 0; count < verifications; count += 1) await work();
  return ((performance.now() - startedAtMs) * 1000) / verifications;
}

async function benchVerifications(issuer, token) {
  const verifier = createVerifier({ issuer, audience: issuer, revocation: { whenStale: "reject" } });
  await verifier.ready();
  const jwks = createRemoteJWKSet(new URL(`${issuer}/.well-known/jwks.json`));
  const jose = await microsecondsEach(() => jwtVerify(token, jwks, { issuer, audience: issuer }));
  const ours = await microsecondsEach(() => verifier.verify(token));
  await verifier.close();
  console.log("\none token, again and again          µs each   ratio");
  for (const [name, each] of Object.entries({
    "jose's jwtVerify": jose,
    "verify, its result cached": ours,
  })) {
    console.log(`${name.padEnd(32)} ${each.toFixed(0).padStart(10)} ${(each / jose).toFixed(2).padStart(7)}`);
  }
}

function startGateway(issuer) {
  const flags = ["--issuer", issuer, "--audience", issuer, "--when-stale", "reject", "--port", "0"];
  const child = spawn(process.execPath, [mainPath, "gateway", ...flags], {
    env: { PATH: process.env.PATH },
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  return new Promise((resolve) => child.once("message", ({ port }) => resolve({ child, port })));
}

/** Milliseconds each of good requests, one after another with pauses between them. */
async function measureGood(port, token, durationMs = phaseMs) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const headers = { authorization: `Bearer ${token}` };
  const durationsMs = [];
  const endsAtMs = performance.now() + durationMs;
  while (performance.now() < endsAtMs) {
    const startedAtMs = performance.now();
    const status = await new Promise((resolve, reject) => {
      get({ host: "127.0.0.1", port, path: "/verify", agent, headers }, (response) => {
        response.resume().once("end", () => resolve(response.statusCode));
      }).once("error", reject);
    });
    if (status !== 200) throw new Error(`a good token was answered ${status}`);
    durationsMs.push(performance.now() - startedAtMs);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  agent.destroy();
  return durationsMs.sort((a, b) => a - b)[Math.floor(durationsMs.length * 0.99)];
}

/** What `work` gives, and how many tokens of this type, each with a kid of its own, were answered meanwhile. */
async function whileFlooded(port, token, typ, work) {
  const worker = new Worker(new URL("flood.js", import.meta.url), {
    workerData: { port, token, typ, perSecond: floodPerSecond },
  });
  const p99 = await work();
  const answered = new Promise((resolve) => worker.once("message", resolve));
  const ended = new Promise((resolve) => worker.once("exit", resolve));
  worker.postMessage("stop");
  await ended;
  return [p99, await answered];
}

async function benchFlood(issuer, token) {
  const { child, port } = await startGateway(issuer);
  await measureGood(port, token);
  const rows = [["nothing else", await measureGood(port, token), 0]];
  const flood = async (name, typ, durationMs) => {
    const [p99, answered] = await whileFlooded(port, token, typ, () => measureGood(port, token, durationMs));
    rows.push([`${floodPerSecond}/s of ${name}`, p99, answered]);
  };
  await flood("another typ", "JWT", phaseMs);
  await flood("made-up kids", "at+jwt", (floodTokens / floodPerSecond) * 1000);
  child.kill();
  console.log("\na good token through the gateway, beside answered   p99 ms   ratio");
  for (const [name, each, answered] of rows) {
    const ratio = (each / rows[0][1]).toFixed(2);
    console.log(
      `${name.padEnd(36)} ${String(answered).padStart(10)} ${each.toFixed(2).padStart(8)} ${ratio.padStart(7)}`,
    );
  }
}

export async function benchVerifier() {
  await withInstance({ BCRYPT_COST: "10" }, async (url) => {
    const { issuer } = await (await fetch(`${url}/.well-known/oauth-authorization-server`)).json();
    const token = await logIn(url);
    await benchVerifications(issuer, token);
    await benchFlood(issuer, token);
  });
}
