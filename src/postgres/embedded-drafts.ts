/** Drafts: what is made aside and then renamed, so that nobody meets it half made; removed if its maker was killed. */

import { randomBytes } from "node:crypto";
import { readdir, rm } from "node:fs/promises";
import path from "node:path";
import { isAlive } from "./embedded-lock.ts";

const draftName = /^\.draft-(\d+)-/;

/** Lends `make` the path of a draft in that folder, and removes what is left of it in the end. */
export async function withDraft<Result>(
  folder: string,
  make: (draft: string) => Promise<Result>,
): Promise<Result> {
  const draft = path.join(folder, `.draft-${process.pid}-${randomBytes(6).toString("hex")}`);
  try {
    return await make(draft);
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

/** For a rename or link to the final name: another start may have been first, and its result serves as well. */
export function unlessThere(error: NodeJS.ErrnoException): void {
  if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
}

/** Of processes that are gone. A draft may hold the password, or 60 MB. */
export async function removeAbandonedDrafts(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const pid = draftName.exec(name)?.[1];
    if (pid && !isAlive(Number(pid))) await rm(path.join(folder, name), { recursive: true, force: true });
  }
}
