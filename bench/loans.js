/** Refreshes at an instance that borrows every signature, against the same at the one that lends them. */

import { account, withInstances } from "./setting.js";

const sessions = 16;
const refreshesEach = 60;

const settings = { NODE_ENV: "test", BCRYPT_COST: "4", MAX_SIGNERS: "1", KEY_PROPAGATION_DELAY: "0s" };

async function post(url, parameters) {
  const response = await fetch(url, { method: "POST", body: new URLSearchParams(parameters) });
  if (response.status !== 200) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  return response.json();
}

/** Milliseconds for each refresh of every session, all sessions at a time. */
async function timeRefreshes(url) {
  const durations = [];
  const lanes = Array.from({ length: sessions }, async () => {
    let { refresh_token } = await post(`${url}/login`, account);
    for (let count = 0; count < refreshesEach; count += 1) {
      const beganMs = performance.now();
      ({ refresh_token } = await post(`${url}/token`, { grant_type: "refresh_token", refresh_token }));
      durations.push(performance.now() - beganMs);
    }
  });
  const beganMs = performance.now();
  await Promise.all(lanes);
  const perSecond = (durations.length / (performance.now() - beganMs)) * 1000;
  const sorted = durations.sort((a, b) => a - b);
  return {
    perSecond,
    p50: sorted[Math.floor(sorted.length * 0.5)],
    p99: sorted[Math.floor(sorted.length * 0.99)],
  };
}

export async function benchLoans() {
  await withInstances(
    2,
    { ...settings, ISSUER: "http://bench.example", LOGIN_ATTEMPTS: "1000" },
    async (urls) => {
      const [signer, borrower] = urls;
      await timeRefreshes(signer);
      await timeRefreshes(borrower);
      const results = {
        "own key": await timeRefreshes(signer),
        "borrowed signature": await timeRefreshes(borrower),
      };
      console.log(`\nrefreshes, ${sessions} at a time    a second   ratio    p50 ms    p99 ms`);
      for (const [name, { perSecond, p50, p99 }] of Object.entries(results)) {
        const ratio = (perSecond / results["own key"].perSecond).toFixed(2);
        const cells = [perSecond.toFixed(0), ratio, p50.toFixed(1), p99.toFixed(1)];
        console.log(`${name.padEnd(28)}${cells.map((cell) => cell.padStart(10)).join("")}`);
      }
    },
  );
}
