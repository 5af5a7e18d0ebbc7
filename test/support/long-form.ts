/** What differs between `npm test`, which is to be quick, and `npm run test:faults`, which is to be sure. */

import { randomInt } from "node:crypto";

/** How much of a thing. */
export function amount(quick: number, sure: number): number {
  return process.env["LONG_FORM"] === "1" ? sure : quick;
}

/** Of what goes by chance in the long form: FAULTS_SEED repeats a run. */
export function longFormSeed(): number {
  return Number(process.env["FAULTS_SEED"] ?? randomInt(2 ** 31));
}
