/** Refuses to judge or sign by keys that may be old. */

import { unavailable } from "../errors.ts";

/** `isCurrent`: whether every key that can sign by now has been read. Throws `temporarily_unavailable` where it has not. */
export async function requireCurrentKeys(isCurrent: () => Promise<boolean>): Promise<void> {
  if (!(await isCurrent())) throw unavailable("The signing keys have to be read again.");
}
