/** Attacks on the claims, all signed by the honest key: missing, of another type, at and past their bounds. */

import { type Attack, attack } from "./attack.ts";
import { audience, type Forger, keyLifeSeconds, type Members } from "./forger.ts";

const show = (value: unknown) => JSON.stringify(value) ?? "absent";
const claim = (name: string, outcome: Attack["outcome"], claims: (forger: Forger) => Members): Attack =>
  attack(name, outcome, (forger) => forger.forge({ claims: claims(forger) }));
/** A value as it stands in the text, which JSON.stringify would not write. */
const literal = (name: string, text: string, outcome: Attack["outcome"]): Attack =>
  attack(`${name} written ${text}`, outcome, ({ forge }) =>
    forge({
      claims: { [name]: "@" },
      claimsText: (json) => json.replace(`"${name}":"@"`, `"${name}":${text}`),
    }),
  );

const required = ["iss", "sub", "aud", "exp", "iat", "jti", "client_id", "rid"];
const missing = required.map((name) =>
  claim(`${name} missing`, "missing_claim", () => ({ [name]: undefined })),
);
const optional = ["nbf", "scope", "auth_time"].map((name) =>
  claim(`${name} missing`, "accepted", () => ({ [name]: undefined })),
);

const texts = ["iss", "sub", "jti", "client_id", "scope", "rid"];
const mistyped = [
  ...texts.flatMap((name) =>
    [null, 1, true, {}, [], ["x"]].map((value) =>
      claim(`${name} ${show(value)}`, "malformed_token", () => ({ [name]: value })),
    ),
  ),
  ...["exp", "iat", "nbf", "auth_time"].flatMap((name) => [
    ...[null, true, {}, "", "soon"].map((value) =>
      claim(`${name} ${show(value)}`, "malformed_token", () => ({ [name]: value })),
    ),
    claim(`${name} a number as text`, "malformed_token", ({ nowSeconds }) => ({
      [name]: String(nowSeconds),
    })),
    claim(`${name} in a list`, "malformed_token", ({ nowSeconds }) => ({ [name]: [nowSeconds] })),
    claim(`${name} with a fraction`, "malformed_token", ({ nowSeconds }) => ({ [name]: nowSeconds + 0.5 })),
    claim(`${name} negative`, "malformed_token", () => ({ [name]: -1 })),
    claim(`${name} in milliseconds past what is exact`, "malformed_token", () => ({ [name]: 2 ** 53 })),
    literal(name, "1e400", "malformed_token"),
    literal(name, "-1e400", "malformed_token"),
    literal(name, "1.0000000001e9", "malformed_token"),
    literal(name, "99999999999999999999999999", "malformed_token"),
  ]),
];

/** The tolerance is the default, 5 s; the time stands still, so a bound is one exact second. */
const times = [
  claim("exp 4 s ago", "accepted", ({ nowSeconds: now }) => ({
    iat: now - 600,
    nbf: now - 600,
    exp: now - 4,
  })),
  claim("exp 5 s ago", "token_expired", ({ nowSeconds: now }) => ({ iat: now - 600, exp: now - 5 })),
  claim("exp an hour ago", "token_expired", ({ nowSeconds: now }) => ({ iat: now - 3700, exp: now - 3600 })),
  claim("exp in 1970", "token_expired", () => ({ iat: 0, nbf: 0, exp: 600 })),
  claim("exp in 1970, issued just now", "malformed_token", () => ({ exp: 0 })),
  claim("iat 5 s ahead", "accepted", ({ nowSeconds: now }) => ({ iat: now + 5 })),
  claim("iat 6 s ahead", "token_not_active", ({ nowSeconds: now }) => ({ iat: now + 6 })),
  claim("iat far ahead", "token_not_active", ({ nowSeconds: now }) => ({ iat: now + 2000, exp: now + 2600 })),
  claim("nbf 5 s ahead", "accepted", ({ nowSeconds: now }) => ({ nbf: now + 5 })),
  claim("nbf 6 s ahead", "token_not_active", ({ nowSeconds: now }) => ({ nbf: now + 6 })),
  claim("nbf beyond exp", "token_not_active", ({ nowSeconds: now }) => ({ nbf: now + 601 })),
  claim("nbf long ago, iat ahead", "token_not_active", ({ nowSeconds: now }) => ({ nbf: 0, iat: now + 6 })),
  claim("a lifetime of 3600 s", "accepted", ({ nowSeconds: now }) => ({ iat: now - 1800, exp: now + 1800 })),
  claim("a lifetime of 3601 s", "malformed_token", ({ nowSeconds: now }) => ({
    iat: now - 1801,
    exp: now + 1800,
  })),
  claim("a lifetime of years, begun long ago", "malformed_token", () => ({ iat: 0 })),
  claim("no lifetime", "malformed_token", ({ nowSeconds: now }) => ({ exp: now })),
  claim("a lifetime of less than nothing", "malformed_token", ({ nowSeconds: now }) => ({
    iat: now + 3,
    exp: now + 2,
  })),
  claim("exp in the year 287396", "malformed_token", () => ({ exp: Number.MAX_SAFE_INTEGER })),
  claim("exp at its key's end", "accepted", ({ nowSeconds: now }) => ({ exp: now + keyLifeSeconds })),
  claim("exp a second past its key's end", "malformed_token", ({ nowSeconds: now }) => ({
    exp: now + keyLifeSeconds + 1,
  })),
];

const issuers = [
  ...[
    "",
    "https://id.example",
    "https://attacker.example",
    "http://127.0.0.1",
    "constructor",
    "accounts",
  ].map((iss) => claim(`iss ${show(iss)}`, "invalid_issuer", () => ({ iss }))),
  claim("iss with a slash after it", "invalid_issuer", ({ issuer }) => ({ iss: `${issuer}/` })),
  claim("iss with a path", "invalid_issuer", ({ issuer }) => ({ iss: `${issuer}/tenant` })),
  claim("iss with a query", "invalid_issuer", ({ issuer }) => ({ iss: `${issuer}?` })),
  claim("iss in other case", "invalid_issuer", ({ issuer }) => ({ iss: issuer.replace("http", "HTTP") })),
  claim("iss with another scheme", "invalid_issuer", ({ issuer }) => ({
    iss: issuer.replace("http:", "https:"),
  })),
  claim("iss by another name of the host", "invalid_issuer", ({ issuer }) => ({
    iss: issuer.replace("127.0.0.1", "localhost"),
  })),
  claim("iss with credentials before it", "invalid_issuer", ({ issuer }) => ({
    iss: issuer.replace("//", "//a@"),
  })),
  claim("iss with spaces around it", "invalid_issuer", ({ issuer }) => ({ iss: ` ${issuer} ` })),
  claim("iss with a NUL after it", "invalid_issuer", ({ issuer }) => ({ iss: `${issuer}\u0000` })),
  claim("iss in a list", "malformed_token", ({ issuer }) => ({ iss: [issuer] })),
];

const audiences: readonly (readonly [unknown, Attack["outcome"]])[] = [
  ["", "invalid_audience"],
  ["https://other.example", "invalid_audience"],
  [`${audience}/`, "invalid_audience"],
  [`${audience}/orders`, "invalid_audience"],
  [audience.toUpperCase(), "invalid_audience"],
  [audience.slice(0, -1), "invalid_audience"],
  [`${audience} `, "invalid_audience"],
  [`${audience} https://other.example`, "invalid_audience"],
  ["*", "invalid_audience"],
  [".*", "invalid_audience"],
  [[], "invalid_audience"],
  [["https://other.example"], "invalid_audience"],
  [["https://other.example", `${audience}/`], "invalid_audience"],
  [audience.split(""), "invalid_audience"],
  [null, "malformed_token"],
  [1, "malformed_token"],
  [true, "malformed_token"],
  [{ 0: audience }, "malformed_token"],
  [[audience, 1], "malformed_token"],
  [[audience, null], "malformed_token"],
  [[[audience]], "malformed_token"],
  [[audience], "accepted"],
  [["https://other.example", audience], "accepted"],
];

/** What the issuer of the suite has revoked before its verifier starts. */
export const revokedSession = "c9b2a1e4-0f9a-4a86-8f3e-0f6f4d1b7c01";
export const revokedToken = "c9b2a1e4-0f9a-4a86-8f3e-0f6f4d1b7c02";

const revoked = [
  claim("a revoked session", "token_revoked", () => ({ rid: revokedSession })),
  claim("a revoked token", "token_revoked", () => ({ jti: revokedToken })),
  claim("a session by the id of a revoked token", "accepted", () => ({ rid: revokedToken })),
  claim("a token by the id of a revoked session", "accepted", () => ({ jti: revokedSession })),
  claim("a revoked session, expired", "token_expired", ({ nowSeconds: now }) => ({
    rid: revokedSession,
    iat: now - 600,
    exp: now - 5,
  })),
];

export const claimAttacks: readonly Attack[] = [
  ...missing,
  ...optional,
  ...mistyped,
  ...times,
  ...issuers,
  ...audiences.map(([aud, outcome]) => claim(`aud ${show(aud)}`, outcome, () => ({ aud }))),
  ...revoked,
];
