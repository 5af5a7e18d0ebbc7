/**
 * Which passwords may be set: length, and a blocklist of what is guessed first (NIST SP 800-63B-4 §3.1.1.2). No kind
 * of character is ever asked for or refused.
 */

/** More is refused at login too: hashing must not be given work without bound. */
export const passwordMaxCodePoints = 256;
/** 20,000 of the most common, one a line. */
export const commonPasswordsUrl = new URL("../../data/common-passwords.txt", import.meta.url);
/** The least that the minimum length may be set to. */
export const leastPasswordMinCodePoints = 8;

/** What is left beside a username or beside runs has to be as long as the shortest password there can be. */
const ownMinCodePoints = leastPasswordMinCodePoints;
/** Shorter ones are within ordinary words: `def`, `tre`. */
const runMinCodePoints = 4;
/** A shorter username is found in passwords by chance. */
const usernameMinCodePoints = 3;

export type PasswordProblem =
  | "too_short"
  | "too_long"
  | "ill_formed"
  | "common"
  | "like_username"
  | "repetition"
  | "sequence";

export interface PasswordPolicySettings {
  /** Code points after NFC, 8 to 256. */
  readonly minLengthCodePoints: number;
}

export interface PasswordPolicy {
  /** Undefined where the password may be set. Asked when one is set or changed, never at login. */
  check(password: string, username: string): PasswordProblem | undefined;
  describe(problem: PasswordProblem): string;
}

/**
 * What no password can be, not even one that is only presented: ill-formed UTF-16, or over 256 code points after NFC.
 * NUL and every other character is fine.
 */
export function passwordFormProblem(password: string): "ill_formed" | "too_long" | undefined {
  if (!password.isWellFormed()) return "ill_formed";
  // NFC takes time quadratic in a run of combining marks: minutes for a megabyte. Of 256 code points no normal form
  // has over 4 times as many, each of at most 2 units, so nothing longer needs it.
  if (password.length > 8 * passwordMaxCodePoints) return "too_long";
  return countCodePoints(password.normalize("NFC")) > passwordMaxCodePoints ? "too_long" : undefined;
}

/**
 * The whole password is judged, without white space and in lower case. It is refused where it
 *
 * - is on the list, or is one that is, repeated, or with runs put around it (`password12345678`);
 * - repeats something that alone would be too short: repeated, it counts once;
 * - has fewer than 8 characters beside runs: 4 or more that are equal, or follow each other in the alphabet, the
 *   digits or on a keyboard, forwards or backwards;
 * - contains the username, or its part before an `@`, or either reversed, and has fewer than 8 characters beside it
 *   and runs. A username of 1 or 2 characters is left to the other rules.
 *
 * Not checked: other personal data, words with letters replaced, breached passwords that are not on the list.
 *
 * Throws RangeError where the minimum length is out of bounds.
 */
export function createPasswordPolicy(
  options: PasswordPolicySettings & { readonly commonPasswords: ReadonlySet<string> },
): PasswordPolicy {
  const { minLengthCodePoints } = options;
  if (
    !Number.isInteger(minLengthCodePoints) ||
    minLengthCodePoints < leastPasswordMinCodePoints ||
    minLengthCodePoints > passwordMaxCodePoints
  ) {
    throw new RangeError(
      `minLengthCodePoints must be a whole number from ${leastPasswordMinCodePoints} to ${passwordMaxCodePoints}`,
    );
  }
  const commonPasswords = new Set(Array.from(options.commonPasswords, foldPassword));

  return {
    check(password, username) {
      const formProblem = passwordFormProblem(password);
      if (formProblem !== undefined) return formProblem;
      if (countCodePoints(password.normalize("NFC")) < minLengthCodePoints) return "too_short";

      const text = foldPassword(password);
      const unit = repeatedUnit(text);
      const rest = withoutRuns(unit);
      if (commonPasswords.has(text) || commonPasswords.has(unit) || commonPasswords.has(rest))
        return "common";
      if (isLikeUsername(password, username)) return "like_username";
      if (unit !== text && countCodePoints(unit) < minLengthCodePoints) return "repetition";
      if (rest !== unit && countCodePoints(rest) < ownMinCodePoints) return "sequence";
      return undefined;
    },
    describe: (problem) => describePasswordProblem(problem, { minLengthCodePoints }),
  };
}

/** One sentence for whoever chose the password; it contains nothing of it. */
export function describePasswordProblem(problem: PasswordProblem, settings: PasswordPolicySettings): string {
  switch (problem) {
    case "too_short":
      return `The password must have at least ${settings.minLengthCodePoints} characters.`;
    case "too_long":
      return `The password must have at most ${passwordMaxCodePoints} characters.`;
    case "ill_formed":
      return "The password must be well-formed Unicode.";
    case "common":
      return "The password is one of those that are commonly used, or little more than one of them.";
    case "like_username":
      return `The password must have at least ${ownMinCodePoints} characters that are not of the username or a run.`;
    case "repetition":
      return `The password repeats something of fewer than ${settings.minLengthCodePoints} characters.`;
    case "sequence":
      return `The password must have at least ${ownMinCodePoints} characters beside runs such as 1234, abcd or qwer.`;
  }
}

/** One password a line, as in `data/common-passwords.txt`; empty lines are skipped, there are no comments. */
export function parseCommonPasswords(text: string): ReadonlySet<string> {
  return new Set(text.split(/\r?\n/).filter((line) => line !== ""));
}

function countCodePoints(text: string): number {
  return [...text].length;
}

function foldPassword(password: string): string {
  return withoutWhiteSpace(password.normalize("NFC").toLowerCase().normalize("NFC"));
}

/** As usernames are compared. */
function foldUsername(text: string): string {
  return withoutWhiteSpace(text.normalize("NFKC").toLowerCase().normalize("NFKC"));
}

/** So that `pass word` is `password`; text of white space alone is kept, to be judged as the repetition that it is. */
function withoutWhiteSpace(text: string): string {
  return text.replaceAll(/\p{White_Space}/gu, "") || text;
}

/** `abc` of `abcabcabc` and of `abcabcab`; all of a text that isn't one unit at least twice, the last maybe cut short. */
function repeatedUnit(text: string): string {
  const chars = [...text];
  // The prefix function of Knuth, Morris and Pratt: linear, where trying every unit would be quadratic.
  const borders: number[] = [0];
  let border = 0;
  for (const char of chars.slice(1)) {
    while (border > 0 && char !== chars[border]) border = borders[border - 1] ?? 0;
    if (char === chars[border]) border += 1;
    borders.push(border);
  }
  const periodCodePoints = chars.length - border;
  return 2 * periodCodePoints <= chars.length ? chars.slice(0, periodCodePoints).join("") : text;
}

/** Each goes round: `890123` is a run too. The keyboards are QWERTY, QWERTZ and AZERTY, along rows and columns. */
const runLines = [
  "1234567890",
  "!@#$%^&*()",
  "abcdefghijklmnopqrstuvwxyz",
  "qwertyuiopasdfghjklzxcvbnm",
  "qwertzuiopasdfghjklyxcvbnm",
  "azertyuiopqsdfghjklmwxcvbn",
  "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
  "qazwsxedcrfvtgbyhnujmikolp",
  "1q2w3e4r5t6y7u8i9o0p",
  "q1w2e3r4t5y6u7i8o9p0",
];

type Successor = (char: string) => string | undefined;

function successorOn(line: readonly string[]): Successor {
  const successors = new Map(line.map((char, index) => [char, line[(index + 1) % line.length]]));
  return (char) => successors.get(char);
}

const runSuccessors: readonly Successor[] = [
  (char) => char,
  ...runLines.flatMap((line) => [successorOn([...line]), successorOn([...line].reverse())]),
];

function runLength(chars: readonly string[], start: number): number {
  const lengths = runSuccessors.map((successor) => {
    let end = start + 1;
    while (end < chars.length && successor(chars[end - 1] ?? "") === chars[end]) end += 1;
    return end - start;
  });
  return Math.max(...lengths);
}

/** Linear: what is looked at again after a position is shorter than a run. */
function withoutRuns(text: string): string {
  const chars = [...text];
  const kept: string[] = [];
  for (let index = 0; index < chars.length; ) {
    const length = runLength(chars, index);
    if (length < runMinCodePoints) kept.push(...chars.slice(index, index + 1));
    index += length < runMinCodePoints ? 1 : length;
  }
  return kept.join("");
}

function isLikeUsername(password: string, username: string): boolean {
  const text = foldUsername(password);
  const name = foldUsername(username);
  const [localPart = ""] = name.split("@");
  return [name, localPart]
    .filter((part) => countCodePoints(part) >= usernameMinCodePoints)
    .flatMap((part) => [part, [...part].reverse().join("")])
    .some((part) => {
      const others = text.split(part);
      return others.length > 1 && countCodePoints(others.map(withoutRuns).join("")) < ownMinCodePoints;
    });
}
