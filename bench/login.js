/** Logins, against nothing but the bcrypt comparisons in them on as many threads. */

import { availableParallelism } from "node:os";
import bcrypt from "bcrypt";
import { createPasswordHasher } from "../dist/accounts/password-hasher.js";
import { account, withInstance } from "./setting.js";

const cost = 12;
const count = 40;
const concurrency = 16;

/** Milliseconds for `count` calls of `work`, `concurrency` at a time. */
async function timeAll(work) {
  let left = count;
  const startedAtMs = performance.now();
  const lanes = Array.from({ length: concurrency }, async () => {
    while (left-- > 0) await work();
  });
  await Promise.all(lanes);
  return performance.now() - startedAtMs;
}

async function timeBcrypt() {
  const workerUrl = new URL("../dist/accounts/password-worker.js", import.meta.url);
  const hasher = createPasswordHasher({
    workerUrl,
    cost,
    threads: availableParallelism(),
    queueLimit: count,
  });
  const hash = bcrypt.hashSync(account.password, cost);
  await hasher.verify(account.password, hash);
  const durationMs = await timeAll(() => hasher.verify(account.password, hash));
  await hasher.close();
  return durationMs;
}

async function timeLogins(url) {
  const body = JSON.stringify(account);
  const login = async () => {
    const response = await fetch(`${url}/login`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
    });
    if (response.status !== 200) throw new Error(`login: ${response.status}`);
    await response.arrayBuffer();
  };
  await login();
  return timeAll(login);
}

export async function benchLogin() {
  await withInstance({ BCRYPT_COST: String(cost), LOGIN_ATTEMPTS: "1000" }, async (url) => {
    const bare = [];
    const logins = [];
    for (let round = 0; round < 2; round += 1) {
      bare.push(await timeBcrypt());
      logins.push(await timeLogins(url));
    }
    const best = (durations) => (count / Math.min(...durations)) * 1000;
    const perSecond = { "bare bcrypt": best(bare), "POST /login": best(logins) };
    console.log(`\nbcrypt cost ${cost}, ${concurrency} at a time         a second   ratio`);
    for (const [name, rate] of Object.entries(perSecond)) {
      console.log(
        `${name.padEnd(30)} ${rate.toFixed(2).padStart(10)} ${(rate / perSecond["bare bcrypt"]).toFixed(2).padStart(7)}`,
      );
    }
  });
}
