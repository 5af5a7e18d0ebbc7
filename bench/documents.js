/** The JWKS from prepared bytes ahead of Express, against the same bytes from an Express route. */

import autocannon from "autocannon";
import { withInstance } from "./setting.js";

const connections = 32;

async function requestsASecond(url, headers = {}) {
  const { requests, latency, non2xx } = await autocannon({ url, connections, duration: 5, headers });
  return { average: Math.round(requests.average), p99Ms: latency.p99, other: non2xx };
}

export async function benchDocuments() {
  await withInstance({}, async (url) => {
    const path = `${url}/.well-known/jwks.json`;
    const { headers } = await fetch(path, { headers: { "accept-encoding": "identity" } });
    // A query string is not an exact path, so it is answered by the route.
    const cases = {
      "Express route": [`${path}?through=express`],
      "ahead of Express": [path],
      "ahead of Express, 304": [path, { "if-none-match": headers.get("etag") }],
    };
    for (const [, request] of Object.entries(cases)) await requestsASecond(...request).then(() => undefined);
    const results = {};
    for (const [name, request] of Object.entries(cases)) results[name] = await requestsASecond(...request);
    const base = results["Express route"].average;
    console.log(`\nJWKS, ${connections} connections          requests/s   ratio   p99`);
    for (const [name, { average, p99Ms }] of Object.entries(results)) {
      console.log(
        `${name.padEnd(30)} ${String(average).padStart(10)} ${(average / base).toFixed(1).padStart(7)} ${p99Ms} ms`,
      );
    }
  });
}
