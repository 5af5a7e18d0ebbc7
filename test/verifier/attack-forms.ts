/** Attacks on the form: other spellings of a good token, other serializations, texts that are no JSON, giants. */

import { type Attack, attack } from "./attack.ts";
import { compact, encode, type Forger, parts } from "./forger.ts";

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/** The same bytes to a lenient decoder: the last character's unused bits are set. */
function withUnusedBits(part: string, bits: number): string {
  return part.slice(0, -1) + alphabet.charAt(alphabet.indexOf(part.at(-1) ?? "") | bits);
}
/** A claims part whose length leaves unused bits, and a token that is honest with it. */
function withRemainder(forger: Forger, remainder: 2 | 3): [string, string, string] {
  for (let pad = ""; ; pad += "x") {
    const honest = parts(forger.forge({ claims: { pad } }));
    if (honest[1].length % 4 === remainder) return honest;
  }
}

const malformed = (name: string, spell: (token: string) => unknown): Attack =>
  attack(name, "malformed_token", (forger) => spell(forger.honest()));

const around: Readonly<Record<string, string>> = {
  "a space": " ",
  "a newline": "\n",
  "CR LF": "\r\n",
  "a tab": "\t",
  "a NUL": "\u0000",
  "a byte order mark": "\ufeff",
  "a no-break space": "\u00a0",
  "a zero-width space": "\u200b",
  "a lone high surrogate": "\ud800",
  "a lone low surrogate": "\udc00",
  "an emoji": "\u{1f511}",
  "a quote": '"',
  "a comma": ",",
  "one =": "=",
  "two =": "==",
  "a dot": ".",
  "+": "+",
  "/": "/",
  "%": "%",
  A: "A",
};

const surrounded = Object.entries(around).flatMap(([name, text]) => [
  malformed(`${name} after the token`, (token) => token + text),
  ...(name === "A" ? [] : [malformed(`${name} before the token`, (token) => text + token)]),
  malformed(`${name} inside the signature`, (token) => token.slice(0, -20) + text + token.slice(-20)),
  malformed(`${name} in place of the signature's last`, (token) => `${token.slice(0, -1)}${text}${text}`),
]);

const base64 = [
  malformed("a header with padding", (token) => token.replace(".", "=.")),
  malformed("claims with padding", (token) => token.replace(/\.([^.]*)$/, "==.$1")),
  attack("a signature with + and / for - and _", "malformed_token", ({ forge }) => {
    for (;;) {
      const [header, claims, signature] = parts(forge({}));
      if (/[-_]/.test(signature))
        return `${header}.${claims}.${signature.replaceAll("-", "+").replaceAll("_", "/")}`;
    }
  }),
  ...Array.from({ length: 15 }, (_, index) => index + 1).map((bits) =>
    malformed(`a signature with the unused bits ${bits}`, (token) => withUnusedBits(token, bits)),
  ),
  ...([2, 3] as const).map((remainder) =>
    attack(`claims with unused bits, ${remainder} characters over`, "malformed_token", (forger) => {
      const [header, claims, signature] = withRemainder(forger, remainder);
      return `${header}.${withUnusedBits(claims, 1)}.${signature}`;
    }),
  ),
  ...([2, 3] as const).map((remainder) =>
    attack(`claims of ${remainder} characters over`, "accepted", (forger) =>
      withRemainder(forger, remainder).join("."),
    ),
  ),
  malformed("claims of an impossible length", (token) => {
    const [header, claims, signature] = parts(token);
    return `${header}.${claims}${"A".repeat(5 - (claims.length % 4))}.${signature}`;
  }),
  malformed("a dot percent-encoded", (token) => token.replace(".", "%2E")),
  malformed("full-width dots", (token) => token.replaceAll(".", "．")),
  malformed("one dot doubled", (token) => token.replace(".", "..")),
  malformed("hex for base64url", (token) =>
    parts(token)
      .map((part) => Buffer.from(part, "base64url").toString("hex"))
      .join("."),
  ),
];

const json = (token: string) => {
  const [header, payload, signature] = parts(token);
  return { protected: header, payload, signature };
};
const serializations = [
  malformed("flattened JSON", (token) => JSON.stringify(json(token))),
  malformed("general JSON", (token) => {
    const { payload, ...signature } = json(token);
    return JSON.stringify({ payload, signatures: [signature] });
  }),
  malformed("flattened JSON as an object", json),
  malformed("a JWE of five parts", (token) => `${token}.${parts(token)[1]}.${parts(token)[2]}`),
  malformed("four parts", (token) => `${token}.${parts(token)[2]}`),
  malformed("two parts", (token) => token.replace(/\.[^.]*$/, "")),
  malformed("one part", (token) => parts(token)[1]),
  malformed("detached claims", (token) => `${parts(token)[0]}..${parts(token)[2]}`),
  malformed("no header", (token) => token.replace(/^[^.]*/, "")),
  malformed("no signature", (token) => token.replace(/[^.]*$/, "")),
  malformed("the scheme before it", (token) => `Bearer ${token}`),
  malformed("quotes around it", (token) => `"${token}"`),
  malformed("the token twice", (token) => `${token}${token}`),
  malformed("the token encoded once more", (token) => encode(token)),
  malformed("a nested token", (token) => compact({ cty: "JWT" }, token, () => Buffer.alloc(64))),
  ...["", ".", "..", "...", "....", "a.b.c", "null", "undefined", "[object Object]"].map((text) =>
    malformed(`the text ${JSON.stringify(text)}`, () => text),
  ),
  ...[undefined, null, 0, true, {}, [], Symbol("token"), 1n].map((value) =>
    malformed(
      `no text but ${String(typeof value)} ${typeof value === "object" ? JSON.stringify(value) : ""}`,
      () => value,
    ),
  ),
  malformed("a String object", (token) => Object(token)),
  malformed("a list of one token", (token) => [token]),
  malformed("the token's bytes", (token) => Buffer.from(token)),
  malformed("an object that says it is the token", (token) => ({ toString: () => token, length: 1 })),
];

type Rewrite = (honest: string) => string | Uint8Array;
/** Each is signed as it stands, by the honest key. */
const rewrites: Readonly<Record<string, Rewrite>> = {
  "in a list": (honest) => `[${honest}]`,
  "as JSON text": (honest) => JSON.stringify(honest),
  null: () => "null",
  "a number": () => "1",
  true: () => "true",
  "no JSON": () => "alg=EdDSA",
  "with a comma after the last member": (honest) => honest.replace(/}$/, ",}"),
  "in single quotes": (honest) => honest.replaceAll('"', "'"),
  "with a comment": (honest) => honest.replace("{", "{/**/"),
  twice: (honest) => honest + honest,
  unfinished: (honest) => honest.slice(0, -1),
  "with a NUL after it": (honest) => `${honest}\u0000`,
  "with a NUL in a text": (honest) => honest.replace('":"', '":"\u0000'),
  "with a byte order mark": (honest) => `\ufeff${honest}`,
  "with an overlong slash": (honest) => withBytes(honest, [0xc0, 0xaf]),
  "with a surrogate in UTF-8": (honest) => withBytes(honest, [0xed, 0xa0, 0x80]),
  "with a stray byte": (honest) => withBytes(honest, [0xff]),
  "in UTF-16": (honest) => Buffer.from(honest, "utf16le"),
  "with a member twice": (honest) => honest.replace("{", '{"x":1,"x":1,'),
  "with a member twice, once escaped": (honest) => honest.replace("{", '{"\\u0078":1,"x":1,'),
  "with __proto__ twice": (honest) => honest.replace("{", '{"__proto__":1,"__proto__":1,'),
  "with a member twice further in": (honest) => honest.replace("{", '{"x":[{"y":1,"y":2}],'),
  "a bomb of open brackets": () => "[".repeat(2000),
  "a bomb of lists": () => "[".repeat(1000) + "]".repeat(1000),
  "a bomb of open objects": () => '{"a":'.repeat(400),
};

function withBytes(text: string, bytes: readonly number[]): Uint8Array {
  return Buffer.concat([Buffer.from('{"x":"'), Buffer.from(bytes), Buffer.from(`",${text.slice(1)}`)]);
}

const rewritten = Object.entries(rewrites).flatMap(([name, rewrite]) => [
  attack(`a header ${name}`, "malformed_token", ({ forge }) => forge({ headerText: rewrite })),
  attack(`claims ${name}`, "malformed_token", ({ forge }) => forge({ claimsText: rewrite })),
]);

const repeated = [
  ...['"alg":"none"', '"alg":"EdDSA"', '"typ":"JWT"', '"kid":"x"', '"\\u0061lg":"none"'].map((member) =>
    attack(`a header that says ${member} first`, "malformed_token", ({ forge }) =>
      forge({ headerText: (honest) => honest.replace("{", `{${member},`) }),
    ),
  ),
  ...['"sub":"admin"', '"exp":1', '"aud":[]', '"s\\u0075b":"admin"'].map((member) =>
    attack(`claims that say ${member} last`, "malformed_token", ({ forge }) =>
      forge({ claimsText: (honest) => honest.replace(/}$/, `,${member}}`) }),
    ),
  ),
  attack("claims that are an empty object", "missing_claim", ({ forge }) =>
    forge({ claimsText: () => "{}" }),
  ),
  attack("claims whose __proto__ has all that they should have", "missing_claim", ({ forge }) =>
    forge({ claimsText: (honest) => `{"__proto__":${honest}}` }),
  ),
  attack("claims with white space between", "accepted", ({ forge }) =>
    forge({ claimsText: (honest) => JSON.stringify(JSON.parse(honest), null, 1) }),
  ),
  attack("claims with a deep member of the issuer's own", "accepted", ({ forge }) =>
    forge({ claimsText: (honest) => honest.replace("{", `{"x":${"[".repeat(900)}${"]".repeat(900)},`) }),
  ),
];

const parsed = (token: string) =>
  parts(token).map((part) => Buffer.from(part, "base64url")) as [Buffer, Buffer, Buffer];
/** The order of the group, little-endian: a signature's S and S + L mean the same to who doesn't check S < L. */
const groupOrder = 2n ** 252n + 27742317777372353535851937790883648493n;
function withOtherS(token: string): string {
  const [header, claims] = parts(token);
  const signature = parsed(token)[2];
  const s = BigInt(`0x${Buffer.from(signature.subarray(32)).reverse().toString("hex")}`) + groupOrder;
  const bytes = Buffer.from(s.toString(16).padStart(64, "0"), "hex").reverse();
  return `${header}.${claims}.${Buffer.concat([signature.subarray(0, 32), bytes]).toString("base64url")}`;
}

const signatures = [
  attack("another token's signature", "signature_failed", ({ honest }) =>
    [...parts(honest()).slice(0, 2), parts(honest())[2]].join("."),
  ),
  attack("another token's claims", "signature_failed", ({ honest }) => {
    const [header, , signature] = parts(honest());
    return `${header}.${parts(honest())[1]}.${signature}`;
  }),
  attack("another spelling of the type, after signing", "signature_failed", ({ forge, honest }) =>
    [parts(forge({ header: { typ: "AT+JWT" } }))[0], ...parts(honest()).slice(1)].join("."),
  ),
  attack("a signature of zeros", "signature_failed", ({ forge }) =>
    forge({ signer: () => Buffer.alloc(64) }),
  ),
  attack("a signature with S + L for S", "signature_failed", ({ honest }) => withOtherS(honest())),
  attack("a signature of 63 bytes", "malformed_token", ({ forge, key }) =>
    forge({ signer: (input) => key.sign(input).subarray(1) }),
  ),
  attack("a signature of 65 bytes", "malformed_token", ({ forge, key }) =>
    forge({ signer: (input) => Buffer.concat([key.sign(input), Buffer.alloc(1)]) }),
  ),
  attack("a signature over the claims alone", "signature_failed", ({ forge, key }) =>
    forge({ signer: (input) => key.sign(input.split(".")[1] ?? "") }),
  ),
];

/** An honest token of exactly this length: base64url skips every fourth, and another spelling of the type moves that. */
function ofLength(forger: Forger, length: number): string {
  for (const typ of ["at+jwt", "application/at+jwt"]) {
    const longest = Math.ceil((length - forger.honest().length) * 0.75);
    for (let pad = longest - 40; pad <= longest; pad += 1) {
      const token = forger.forge({ header: { typ }, claims: { pad: "x".repeat(pad) } });
      if (token.length === length) return token;
    }
  }
  throw new Error("there is no token of this length");
}

const sizes = [
  attack("a token of 4096 characters", "accepted", (forger) => ofLength(forger, 4096)),
  attack("a token of 4097 characters", "malformed_token", (forger) => ofLength(forger, 4097)),
  attack("a token with a megabyte of claims", "malformed_token", ({ forge }) =>
    forge({ claims: { pad: "x".repeat(1_000_000) } }),
  ),
  attack("a token with a megabyte of header", "malformed_token", ({ forge }) =>
    forge({ headerText: (honest) => honest + " ".repeat(1_000_000) }),
  ),
  malformed("16 MiB of one letter", () => "a".repeat(16 * 1024 * 1024)),
  malformed("4 MiB of dots", () => ".".repeat(4 * 1024 * 1024)),
];

export const formAttacks: readonly Attack[] = [
  ...surrounded,
  ...base64,
  ...serializations,
  ...rewritten,
  ...repeated,
  ...signatures,
  ...sizes,
];
