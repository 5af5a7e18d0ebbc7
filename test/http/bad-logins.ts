/** Requests to `/login` that must be refused: what is sent, and with what status and code it is refused. */

import { brotliCompressSync, gzipSync } from "node:zlib";

/** In every value that a request carries: no answer and no log line may contain them. */
export const passwordCanary = "pw-canary-Zq7";
export const valueCanary = "value-canary-Xk4";

export interface BadLogin {
  readonly name: string;
  readonly body: string | Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
  readonly status: number;
  readonly error: string;
}

const jsonType = { "content-type": "application/json" };
const formType = { "content-type": "application/x-www-form-urlencoded" };
const username = valueCanary;
const password = `${passwordCanary} correct horse`;
const good = JSON.stringify({ username, password });
/** The inside of a JSON object that could log in, if it were not for what is put beside it. */
const members = good.slice(1, -1);
const form = `username=${username}&password=${passwordCanary}`;

export const bodyMaxBytes = 16 * 1024;
/** White space behind the JSON makes it as long as one likes. */
export const paddedLogin = (bytes: number): string => good.padEnd(bytes, " ");

function nested(depth: number, open: string, close: string, innermost = "1"): string {
  return open.repeat(depth) + innermost + close.repeat(depth);
}

type Row = readonly [name: string, body: string | Uint8Array];

function refused(status: number, error: string, headers: BadLogin["headers"], rows: readonly Row[]) {
  return rows.map(
    ([name, body]): BadLogin => ({
      name,
      body,
      status,
      error,
      ...(headers === undefined ? {} : { headers }),
    }),
  );
}

function json(overrides: object): string {
  return JSON.stringify({ username, password, ...overrides });
}

/** `{members, NAME: TEXT}` with the name and the value as they are written. */
const beside = (name: string, text: string) => `{${members},${name}:${text}}`;

const malformedJson = refused(400, "invalid_request", jsonType, [
  ["an empty body", ""],
  ["white space", " \r\n\t"],
  ["JSON that ends early", good.slice(0, -1)],
  ["JSON with a comma too many", `{${members},}`],
  ["JSON with single quotes", `{'username':'${username}','password':'${passwordCanary}'}`],
  ["two JSON documents", good + good],
  ["a form sent as JSON", form],
  ["JSON with NaN", beside('"x"', "NaN")],
  ["a NUL between the members", `{${members},\0"x":1}`],
  ["a raw line feed in a string", `{${members},"x":"a\nb"}`],
  ["5,000 brackets that are never closed", beside('"x"', "[".repeat(5000))],
  ["an array", `[${good}]`],
  ["null", "null"],
  ["a string", JSON.stringify(valueCanary)],
  ["a number", "1"],
  ["true", "true"],
  ["5,000 nested arrays", nested(5000, "[", "]")],
  ["bytes that are no UTF-8", Buffer.from(`{${members},"x":"\xff"}`, "latin1")],
  ["UTF-16", Buffer.from(good, "utf16le")],
  ["an encoded surrogate", Buffer.from(`{${members},"x":"\xed\xa0\x80"}`, "latin1")],
]);

const repeatedMembers = refused(400, "invalid_request", jsonType, [
  ["a repeated username", beside('"username"', `"${valueCanary}2"`)],
  ["a repeated password", beside('"password"', `"${passwordCanary}2"`)],
  ["a repeated username, once spelled with an escape", beside('"\\u0075sername"', `"${valueCanary}2"`)],
  ["a repeated unknown member", beside('"x":1,"x"', "1")],
  ["a member repeated within a member", beside('"x"', '{"a":1,"a":2}')],
  ["a member repeated deep within arrays", beside('"x"', '[[{"b":{}},[{"a":1,"\\u0061":2}]]]')],
  ["a repeated __proto__", beside('"__proto__":1,"__proto__"', "1")],
  ["a repeated empty name", beside('"":1,""', "1")],
]);

const wrongMembers = refused(400, "invalid_request", jsonType, [
  ["no members", "{}"],
  ["no username", JSON.stringify({ password })],
  ["no password", JSON.stringify({ username })],
  ["another case in the names", JSON.stringify({ Username: username, Password: password })],
  ["all members within __proto__", `{"__proto__":${good}}`],
  ...["username", "password", "audience", "scope", "client_id"].flatMap((name) =>
    [1, true, null, [valueCanary], { [valueCanary]: passwordCanary }].map(
      (value): Row => [`${name}: ${JSON.stringify(value)}`, json({ [name]: value })],
    ),
  ),
]);

const malformedNames = refused(400, "invalid_request", jsonType, [
  ["an empty username", json({ username: "" })],
  ["a username of spaces", json({ username: "   " })],
  ["a username of 129 characters", json({ username: valueCanary.padEnd(129, "a") })],
  ["a username of 129 characters of two units each", json({ username: "\u{1f511}".repeat(129) })],
  ["a username of 10,000 characters", json({ username: valueCanary.padEnd(10_000, "a") })],
  ["a username that NFKC makes longer than 128", json({ username: "\ufdfa".repeat(128) })],
  ["NUL in the username", json({ username: `${valueCanary}\0` })],
  ["CR and LF in the username", json({ username: `${valueCanary}\r\n{"level":"fatal"}` })],
  ["ESC in the username", json({ username: `\u001b[2J${valueCanary}` })],
  ["a C1 control character in the username", json({ username: `${valueCanary}\u009b31m` })],
  ["DEL in the username", json({ username: `${valueCanary}\u007f` })],
  ["a line separator in the username", json({ username: `${valueCanary}\u2028` })],
  ["a lone high surrogate in the username", `{"username":"${valueCanary}\\ud83d","password":"${password}"}`],
  ["a lone low surrogate in the username", `{"username":"\\udd11${valueCanary}","password":"${password}"}`],
  ["a lone surrogate in the password", `{"username":"${username}","password":"${password}\\ud800"}`],
  ["a password of 257 characters", json({ password: passwordCanary.padEnd(257, "a") })],
  ["a password of 10,000 characters", json({ password: passwordCanary.padEnd(10_000, "a") })],
]);

const malformedClients = refused(400, "invalid_request", jsonType, [
  ["an empty client_id", json({ client_id: "" })],
  ["a client_id with a space", json({ client_id: `${valueCanary} b` })],
  ["a client_id with NUL", json({ client_id: `${valueCanary}\0` })],
  ["a client_id that is not ASCII", json({ client_id: `${valueCanary}é` })],
  ["a client_id of 65 characters", json({ client_id: valueCanary.padEnd(65, "a") })],
  ["a client_id with a line feed at its end", json({ client_id: `${valueCanary}\n` })],
  ["a client_id with a lone surrogate", `{${members},"client_id":"${valueCanary}\\ud800"}`],
]);

const malformedScopes = refused(400, "invalid_scope", jsonType, [
  ["a scope with a quote", json({ scope: `${valueCanary}"` })],
  ["a scope with a backslash", json({ scope: `${valueCanary}\\` })],
  ["a scope with a tab", json({ scope: `orders:read\t${valueCanary}` })],
  ["a scope with NUL", json({ scope: `${valueCanary}\0` })],
  ["a scope that is not ASCII", json({ scope: `${valueCanary}é` })],
  ["a scope-token of 65 characters", json({ scope: valueCanary.padEnd(65, "a") })],
  ["a scope with a lone surrogate", `{${members},"scope":"${valueCanary}\\ud800"}`],
]);

const strangeAudiences = refused(400, "invalid_target", jsonType, [
  ["an empty audience", json({ audience: "" })],
  ["an audience that is not allowed", json({ audience: `https://${valueCanary}.example` })],
  [
    "an audience that only begins as an allowed one",
    json({ audience: `https://api.example/${valueCanary}` }),
  ],
  ["an allowed audience in other case", json({ audience: "HTTPS://API.EXAMPLE" })],
  ["two allowed audiences in one", json({ audience: "https://api.example https://api.example" })],
  ["an audience with NUL", json({ audience: "https://api.example\0" })],
  ["an audience of 10,000 characters", json({ audience: valueCanary.padEnd(10_000, "a") })],
  ["an audience with a lone surrogate", `{${members},"audience":"https://api.example\\ud800"}`],
]);

const malformedForms = refused(400, "invalid_request", formType, [
  ["an empty form", ""],
  ["JSON sent as a form", good],
  ["a form without a password", `username=${username}`],
  ["a repeated parameter", `${form}&username=${valueCanary}2`],
  ["a parameter repeated in another spelling", `${form}&%75sername=${valueCanary}2`],
  ["a repeated unknown parameter", `${form}&x=1&x=1`],
  ["a parameter repeated without a value", `${form}&password`],
  ["members by prototype", `__proto__[username]=${username}&__proto__=${passwordCanary}`],
  ["a percent sign before what is no hex", `${form}&x=%zz`],
  ["a percent sign at the end", `${form}&x=%`],
  ["%ff", `${form}&x=%ff`],
  ["an overlong %c0%80", `${form}&x=%c0%80`],
  ["an encoded surrogate", `${form}&x=%ed%a0%80`],
  ["a raw byte that is no UTF-8", Buffer.from(`${form}&x=\xff`, "latin1")],
  ["%00 in the username", `username=${username}%00&password=${passwordCanary}`],
  ["%0d%0a in the username", `username=${username}%0d%0a&password=${passwordCanary}`],
]);

const tooLarge = [
  ...refused(413, "invalid_request", jsonType, [
    ["JSON of 16 KiB and a byte", paddedLogin(bodyMaxBytes + 1)],
  ]),
  ...refused(413, "invalid_request", formType, [
    ["a form of 16 KiB and a byte", `${form}&x=`.padEnd(bodyMaxBytes + 1, "a")],
    ["20,000 parameters", `${form}${"&a".repeat(20_000)}`],
  ]),
  ...refused(413, "invalid_request", { ...jsonType, "transfer-encoding": "chunked" }, [
    ["a chunked body of 16 KiB and a byte", paddedLogin(bodyMaxBytes + 1)],
  ]),
  ...refused(413, "invalid_request", undefined, [["a large body of no type", "a".repeat(bodyMaxBytes + 1)]]),
];

const wrongTypes = [
  undefined,
  "",
  "text/plain",
  "application/jsonx",
  "application/json, text/plain",
  "application/vnd.api+json",
  "multipart/form-data; boundary=x",
  "application/json; charset=utf-16",
  'application/json; charset="iso-8859-1"',
  "application/x-www-form-urlencoded; charset=latin1",
].flatMap((type) =>
  refused(415, "invalid_request", type === undefined ? undefined : { "content-type": type }, [
    [`content type ${type}`, good],
  ]),
);

const wrongCodings = (
  [
    ["gzip", gzipSync(good)],
    ["br", brotliCompressSync(good)],
    ["gzip, gzip", gzipSync(gzipSync(good))],
    ["gzip", gzipSync(Buffer.alloc(10_000_000))],
    ["unheard-of", good],
  ] as const
).flatMap(([coding, body], index) =>
  refused(415, "invalid_request", { ...jsonType, "content-encoding": coding }, [
    [`content coding ${coding} (${index})`, body],
  ]),
);

export const badLogins: readonly BadLogin[] = [
  ...[...malformedJson, ...repeatedMembers, ...wrongMembers, ...malformedNames, ...malformedClients],
  ...[
    ...malformedScopes,
    ...strangeAudiences,
    ...malformedForms,
    ...tooLarge,
    ...wrongTypes,
    ...wrongCodings,
  ],
];

/** Strange, and yet in order: an unknown account's login, refused as such. */
export const strangeButWellFormed: readonly BadLogin[] = [
  ...refused(401, "invalid_credentials", jsonType, [
    ["an unknown member", beside('"x"', `"${valueCanary}"`)],
    [
      "members called __proto__ and constructor",
      beside('"__proto__":{"x":1},"constructor"', '{"prototype":1}'),
    ],
    ["one name in two objects", beside('"x"', '[{"a":1},{"a":1,"b":{"a":1}}]')],
    ["a string that looks like repeated members", beside('"x"', '"{\\"a\\":1,\\"a\\":2}"')],
    ["5,000 nested arrays in an unknown member", beside('"x"', nested(5000, "[", "]"))],
    ["2,500 nested objects in an unknown member", beside('"x"', nested(2500, '{"":', "}"))],
    ["NUL in the password", json({ password: `${passwordCanary}\0` })],
    ["CR, LF and ESC in the password", json({ password: `${passwordCanary}\r\n\u001b[2J` })],
    ["an empty password", json({ password: "" })],
    ["a password of 256 characters", json({ password: passwordCanary.padEnd(256, "a") })],
    ["a username of 128 characters", json({ username: valueCanary.padEnd(128, "a") })],
    ["a username of 128 characters of two units each", json({ username: "\u{1f511}".repeat(128) })],
    ["16 KiB exactly", paddedLogin(bodyMaxBytes)],
  ]),
  ...refused(401, "invalid_credentials", { ...jsonType, "content-encoding": "identity" }, [
    ["the identity coding by name", good],
  ]),
  ...refused(401, "invalid_credentials", { "content-type": 'APPLICATION/JSON ;charset="UTF-8"' }, [
    ["the content type in another spelling", good],
  ]),
  ...refused(401, "invalid_credentials", formType, [
    ["a form", form],
    ["a form with an empty pair and a plus", `&${form}+a&&x`],
    ["a parameter called __proto__", `${form}&__proto__=${valueCanary}`],
  ]),
];
