import { readFileSync } from "node:fs";
import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import {
  createPasswordPolicy,
  describePasswordProblem,
  type PasswordProblem,
  parseCommonPasswords,
  passwordFormProblem,
} from "../../src/accounts/password-policy.ts";

const listText = readFileSync(new URL("../../data/common-passwords.txt", import.meta.url), "utf8");
const commonPasswords = parseCommonPasswords(listText);
const policy = createPasswordPolicy({ minLengthCodePoints: 15, commonPasswords });
const shortPolicy = createPasswordPolicy({ minLengthCodePoints: 8, commonPasswords });
/** Knows no common password, so that another rule has to catch what is on the list too. */
const listlessPolicy = createPasswordPolicy({ minLengthCodePoints: 15, commonPasswords: new Set() });

/** `count` different code points that follow each other on no line of the policy. */
function distinctCharacters(count: number, first = 0x4e00): string {
  return Array.from({ length: count }, (_, index) => String.fromCodePoint(first + 3 * index)).join("");
}

describe("length", () => {
  test("is counted in code points, from the setting to 256", () => {
    expect(policy.check(distinctCharacters(14), "alice")).toBe("too_short");
    expect(policy.check(distinctCharacters(15), "alice")).toBeUndefined();
    expect(policy.check(distinctCharacters(15, 0x20000), "alice")).toBeUndefined();
    expect(policy.check(distinctCharacters(256, 0x20000), "alice")).toBeUndefined();
    expect(policy.check(distinctCharacters(257), "alice")).toBe("too_long");
    expect(shortPolicy.check("vX9!kd2", "alice")).toBe("too_short");
    expect(shortPolicy.check("vX9!kd2p", "alice")).toBeUndefined();
  });

  test("is counted after NFC", () => {
    const eightLetters = "éèêëàâäç".normalize("NFD");
    expect(eightLetters.length).toBe(16);
    expect(policy.check(eightLetters, "alice")).toBe("too_short");
    const composed = Array.from({ length: 256 }, (_, index) =>
      String.fromCodePoint(0x1ea0 + ((index * 7) % 80)),
    ).join("");
    expect([...composed.normalize("NFD")].length).toBeGreaterThan(256);
    expect(passwordFormProblem(composed.normalize("NFD"))).toBeUndefined();
  });

  test("over-long text is not normalised, which takes time quadratic in a run of combining marks", () => {
    const marks = "\u0301\u0323".repeat(50_000);
    const startMs = performance.now();
    expect(policy.check(marks, "alice")).toBe("too_long");
    expect(performance.now() - startMs).toBeLessThan(500);
  });

  test("a minimum out of bounds is refused", () => {
    for (const minLengthCodePoints of [7, 257, 8.5, Number.NaN]) {
      expect(() => createPasswordPolicy({ minLengthCodePoints, commonPasswords })).toThrow(RangeError);
    }
  });
});

describe("characters", () => {
  test("lone surrogates are refused", () => {
    for (const text of ["\ud800", "\udfff", "\udc00\ud800"]) {
      expect(policy.check(`correct horse ${text} battery`, "alice")).toBe("ill_formed");
      expect(passwordFormProblem(text)).toBe("ill_formed");
    }
  });

  test.each([
    "nul\u0000 and tab\t and\r\nnew line",
    "  spaces at both ends  ",
    "правильная лошадь батарея",
    "正確な馬のバッテリーステープル留め",
    "🐴🔋📎🦄🌋🧭🎻🪁🧊🛶🏔️🦑🥁",
    "nothing but lower case letters",
    "80417295361846",
    "{}[]<>?|~`^_-=+;",
  ])("any other is allowed, and none is asked for: %j", (password) => {
    expect(shortPolicy.check(password, "alice")).toBeUndefined();
  });
});

describe("common passwords", () => {
  test.each(["mychemicalromance", "MyChemicalRomance", "my chemical romance", "uncharacteristically"])(
    "%j is refused",
    (password) => {
      expect(policy.check(password, "alice")).toBe("common");
    },
  );

  test.each(["PasswordPassword", "password password password", "sunshinesunshine", "baseballbaseballbase"])(
    "one that is repeated is refused: %j",
    (password) => {
      expect(policy.check(password, "alice")).toBe("common");
    },
  );

  test.each(["password12345678", "1234567890iloveyou", "Sunshine!!!!!!!!", "qwertprincess12345"])(
    "one with runs around it is refused: %j",
    (password) => {
      expect(policy.check(password, "alice")).toBe("common");
    },
  );

  test("a repeated one is refused where it has a run within", () => {
    const commonPassword = "violet 1234 umbrella";
    const custom = createPasswordPolicy({
      minLengthCodePoints: 15,
      commonPasswords: new Set([commonPassword]),
    });
    expect(listlessPolicy.check(commonPassword.repeat(2), "alice")).toBeUndefined();
    expect(custom.check(commonPassword.repeat(2), "alice")).toBe("common");
  });

  test("one within other words is no reason", () => {
    expect(policy.check("my password is not password", "alice")).toBeUndefined();
  });

  test("the list may be written in any case and normal form", () => {
    const custom = createPasswordPolicy({
      minLengthCodePoints: 8,
      commonPasswords: parseCommonPasswords("\r\nCafe\u0301 au Lait\r\n"),
    });
    expect(custom.check("CAFÉ AU LAIT", "alice")).toBe("common");
  });
});

describe("repetition", () => {
  test.each([
    "aaaaaaaaaaaaaaa",
    "abcabcabcabcabcabc",
    "abcabcabcabcabca",
    "xkqzvxkqzvxkqzv",
    "Tr0ub4dTr0ub4dTr0ub4d",
    "               ",
    "\u0000".repeat(15),
    "🐴🔋".repeat(8),
    "ab".repeat(128),
  ])("%j is refused", (password) => {
    expect(listlessPolicy.check(password, "alice")).toBe("repetition");
  });

  test("of what is long enough alone is allowed", () => {
    expect(policy.check("violet umbrella engine ".repeat(2), "alice")).toBeUndefined();
    expect(shortPolicy.check("vX9!kd2pvX9!kd2p", "alice")).toBeUndefined();
  });
});

describe("sequences", () => {
  test.each([
    "123456789012345",
    "987654321098765",
    "abcdefghijklmnop",
    "ZYXWVUTSRQPONMLK",
    "qwertyuiopasdfgh",
    "azertyuiopqsdfgh",
    "1qaz2wsx3edc4rfv",
    "1q2w3e4r5t6y7u8i",
    "qazwsxedcrfvtgb",
    "1234 5678 9012 3456",
    "qwerty123456789",
    "aaaabbbbccccddddeeee",
    "dragon1234567890",
    "1234567monkey1234567",
  ])("%j is refused", (password) => {
    expect(listlessPolicy.check(password, "alice")).toBe("sequence");
  });

  test.each([
    ["rows one after the other", "jklzxcvb"],
    ["shifted digits", "!@#$%^&*"],
    ["QWERTZ", "wertzuio"],
    ["AZERTY", "lmwxcvbn"],
    ["columns with digits", "qaz2wsx3"],
    ["columns", "azwsxedc"],
    ["digits and letters", "2w3e4r5t"],
    ["letters and digits", "q1w2e3r4"],
    ["the alphabet, going round", "yzabxyza"],
    ["digits, going round", "89018901"],
  ])("%s: not counted", (_line, run) => {
    expect(listlessPolicy.check(`vX2!kd9${distinctCharacters(8)}`, "alice")).toBeUndefined();
    expect(listlessPolicy.check(`vX2!kd9${run}`, "alice")).toBe("sequence");
  });

  test("runs beside 8 other characters are allowed", () => {
    expect(policy.check("vX9!kd2p1234567", "alice")).toBeUndefined();
    expect(policy.check("vX9!kd21234567", "alice")).toBe("too_short");
    expect(policy.check("vX9!kd212345678", "alice")).toBe("sequence");
  });
});

describe("the username", () => {
  test.each([
    ["margaret.hamilton", "margaret.hamilton"],
    ["Margaret.Hamilton", "margaret.hamilton"],
    ["margaret.hamilton1969!", "margaret.hamilton"],
    ["**margaret.hamilton**", "margaret.hamilton"],
    ["notlimah.teragram", "margaret.hamilton"],
    ["margaretmargaretmargaret", "margaret"],
    ["margaret-margaret-margaret", "margaret"],
    ["bob bob bob bob bob!", "bob"],
    ["margarethamilton123456789", "margaret hamilton"],
    ["margaret.hamilton", "margaret.hamilton@example.com"],
    ["ｍａｒｇａｒｅｔ.ｈａｍｉｌｔｏｎ", "margaret.hamilton"],
    ["margaret.hamilton", "ＭＡＲＧＡＲＥＴ.HAMILTON"],
    ["x".repeat(3) + distinctCharacters(128), distinctCharacters(128)],
  ])("%j for %j is refused", (password, username) => {
    expect(listlessPolicy.check(password, username)).toBe("like_username");
  });

  test("beside 8 other characters is allowed", () => {
    expect(policy.check("margaret vX9!kd2", "margaret")).toBe("like_username");
    expect(policy.check("margaret vX9!kd2p", "margaret")).toBeUndefined();
  });

  test("of 1 or 2 characters is no reason", () => {
    for (const username of ["v", "2p", ""]) expect(shortPolicy.check("vX9!kd2p", username)).toBeUndefined();
  });
});

test.each([
  "correct horse battery staple",
  "correcthorsebatterystaple",
  "Correct-Horse-Battery-Staple-42",
  "the cat sat on the mat",
  "my property tax is due",
  "row row row your boat",
  "tree feed street poetry",
  "1600 Amphitheatre Parkway",
  "Zx7#qLm2$Vt9pRk",
])("a good passphrase is allowed: %j", (password) => {
  expect(policy.check(password, "alice")).toBeUndefined();
});

describe("any input", () => {
  const anyText = fc.oneof(
    fc.string({ unit: "binary", maxLength: 300 }),
    fc.string({ unit: "grapheme", maxLength: 300 }),
    fc
      .array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 300 })
      .map((units) => String.fromCharCode(...units)),
    fc.string({ unit: fc.constantFrom("a", "b", "1", "2", " ", "é", "\u0301", "\u0000"), maxLength: 300 }),
  );

  test("gets a verdict, and the same in NFC and NFD", () => {
    fc.assert(
      fc.property(anyText, anyText, (password, username) => {
        const verdict = policy.check(password, username);
        expect(policy.check(password.normalize("NFC"), username)).toBe(verdict);
        expect(policy.check(password.normalize("NFD"), username)).toBe(verdict);
        expect(verdict === "ill_formed").toBe(!password.isWellFormed());
      }),
      { numRuns: 500 },
    );
  });

  test("is refused when it repeats a short unit, whatever the unit", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme-ascii", minLength: 1, maxLength: 14 }), (unit) => {
        expect(policy.check(unit.repeat(Math.ceil(30 / unit.length)), "alice")).toBeDefined();
      }),
    );
  });

  test("of two letters is a repetition just where a unit of 14 or fewer is found by trying all", () => {
    const repeats = (text: string) =>
      Array.from({ length: Math.min(14, Math.floor(text.length / 2)) }, (_, index) => index + 1).some(
        (length) => text.slice(length) === text.slice(0, -length),
      );
    const unit = fc.string({ unit: fc.constantFrom("x", "q"), minLength: 1, maxLength: 16 });
    fc.assert(
      fc.property(unit, fc.integer({ min: 15, max: 60 }), unit, (start, length, end) => {
        const text = start.repeat(length).slice(0, length) + end;
        expect(listlessPolicy.check(text, "alice") === "repetition").toBe(repeats(text));
      }),
      { numRuns: 2000 },
    );
  });

  test("of 256 characters is judged in a few milliseconds", () => {
    const worst = ["a", "abc1", "qwe", "1234567890", "qwertyuiopasdfghjklzxcvbnm"].map((unit) =>
      unit.repeat(256).slice(0, 255).concat("é"),
    );
    const startMs = performance.now();
    for (let round = 0; round < 20; round += 1)
      for (const password of worst) policy.check(password, "qwe".repeat(42));
    expect((performance.now() - startMs) / (20 * worst.length)).toBeLessThan(10);
  });
});

describe("the reason", () => {
  const problems: readonly PasswordProblem[] = [
    "too_short",
    "too_long",
    "ill_formed",
    "common",
    "like_username",
    "repetition",
    "sequence",
  ];

  test("is one sentence, its own for every problem, with the setting in it", () => {
    const sentences = problems.map((problem) => policy.describe(problem));
    for (const sentence of sentences) expect(sentence).toMatch(/^[A-Z][^.]*\.$/);
    expect(new Set(sentences).size).toBe(problems.length);
    expect(policy.describe("too_short")).toContain(" 15 ");
    expect(describePasswordProblem("too_short", { minLengthCodePoints: 12 })).toContain(" 12 ");
    expect(policy.describe("too_long")).toContain(" 256 ");
  });
});

describe("data/common-passwords.txt", () => {
  const lines = listText.split("\n").slice(0, -1);

  test("has enough passwords of 8 or more characters (OWASP ASVS 6.2.4), and hundreds of 15 or more", () => {
    expect(commonPasswords.size).toBeGreaterThanOrEqual(10_000);
    expect(lines.every((line) => [...line].length >= 8)).toBe(true);
    expect(lines.filter((line) => [...line].length >= 15).length).toBeGreaterThanOrEqual(500);
  });

  test("is in NFC and lower case, sorted, without duplicates", () => {
    expect(lines.every((line) => line === line.normalize("NFC").toLowerCase().trim())).toBe(true);
    expect(lines).toEqual([...new Set(lines)].sort());
    expect(listText.endsWith("\n")).toBe(true);
  });

  test("every line of the minimum length is refused", () => {
    const passed = lines.filter((line) => shortPolicy.check(line, "") !== "common");
    expect(passed).toEqual([]);
  });
});
