/** What a person sees once `npm start` is ready: where it listens, and how to log in. Never printed in production. */

import { demoUsername } from "../development.ts";

export interface ServedInstance {
  readonly port: number;
  readonly metricsPort: number;
  readonly issuer: string;
}

/** Of the database of this folder; its password is known at the first start alone. */
export interface DemoAccount {
  readonly password: string | undefined;
}

export function printBanner(instances: readonly ServedInstance[], demo: DemoAccount | undefined): void {
  const [first] = instances;
  if (first === undefined) return;
  const listening = instances.map(({ port }) => `http://localhost:${port}`).join("  ");
  const metrics = instances.map(({ metricsPort }) => `http://localhost:${metricsPort}/metrics`).join("  ");
  const login = (password: string) =>
    `curl -s http://localhost:${first.port}/login -d username=${demoUsername} -d password=${password}`;
  const account =
    demo?.password === undefined
      ? "with the password that the first start told"
      : `password ${demo.password} (told this once)`;
  const lines = [
    "",
    `Keyfleet is listening on  ${listening}`,
    `  issuer        ${first.issuer}`,
    `  JWKS          http://localhost:${first.port}/.well-known/jwks.json`,
    `  metrics       ${metrics}`,
    ...(demo === undefined
      ? []
      : [
          `  demo account  ${demoUsername}, ${account}`,
          `  log in        ${login(demo.password ?? "PASSWORD")}`,
        ]),
    "",
  ];
  console.log(lines.join("\n"));
}
