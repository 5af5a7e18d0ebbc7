import { randomInt } from "node:crypto";

/** How much of a thing: less in `npm test`, which is to be quick, than in `npm run test:faults`, which is to be sure. */

export function amount(quick: number, sure: number): number {
  return process.env["LONG_FORM"] === "1" ? sure : quick;
}

/** Of what goes by chance in the long form: FAULTS_SEED repeats a run. */
export function longFormSeed(): number {
  return Number(process.env["FAULTS_SEED"] ?? randomInt(2 ** 31));
}
