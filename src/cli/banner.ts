/** What a person sees once `npm start` is ready: where it listens, and how to log in. Never printed in production. */

import { demoUsername } from "../development.ts";

export interface ServedInstance {
  readonly port: number;
  readonly metricsPort: number;
  readonly issuer: string;
}

export function printBanner(instances: readonly ServedInstance[], demoPassword: string | undefined): void {
  const [first] = instances;
  if (first === undefined) return;
  const listening = instances.map(({ port }) => `http://localhost:${port}`).join("  ");
  const metrics = instances.map(({ metricsPort }) => `http://localhost:${metricsPort}/metrics`).join("  ");
  const account =
    demoPassword === undefined
      ? [`${demoUsername}, with the password that the first start told`]
      : [`${demoUsername}, password ${demoPassword} (told this once)`];
  const lines = [
    "",
    `Keyfleet is listening on  ${listening}`,
    `  issuer        ${first.issuer}`,
    `  JWKS          http://localhost:${first.port}/.well-known/jwks.json`,
    `  metrics       ${metrics}`,
    `  demo account  ${account.join("")}`,
    `  log in        curl -s http://localhost:${first.port}/login -d username=${demoUsername} -d password=${demoPassword ?? "PASSWORD"}`,
    "",
  ];
  console.log(lines.join("\n"));
}
