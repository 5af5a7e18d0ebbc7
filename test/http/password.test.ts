import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { addAccount, alice, eventually, manageAccounts } from "../support/accounts.ts";
import {
  describeAccountTokenRules,
  expectBadRequest,
  expectInvalidToken,
  expectNoContent,
  expectNoCredentials,
  expectNothingDone,
} from "./endpoint-answers.ts";
import { bearer, type EndpointFixture, jsonType, startEndpointFixture } from "./endpoint-fixture.ts";
import { describeFormRules, describeMethodRules, describeOutage } from "./endpoint-rules.ts";
import { everything } from "./refusal.ts";
import { createForger, type Forger, flawless, strangeTokens } from "./strange-tokens.ts";

let fixture: EndpointFixture;

beforeAll(async () => {
  fixture = await startEndpointFixture();
});
afterAll(() => fixture.stop());

const old: string = alice.password;
const fresh = "an entirely different phrase";

/** An account of this test's own. */
async function newcomer(username = `newcomer ${randomUUID()}`) {
  await addAccount(fixture.database.url, { ...alice, username });
  return { username, login: (members = {}) => fixture.login({ username, ...members }) };
}

const byName = (username: string, current_password = old, new_password = fresh) =>
  fixture.postJson("/password", { username, current_password, new_password });
const byToken = (token: string, members: object = {}) =>
  fixture.postJson("/password", { current_password: old, new_password: fresh, ...members }, bearer(token));
const refresh = (refresh_token: string) =>
  fixture.postForm("/token", { grant_type: "refresh_token", refresh_token });
const asks = (token: string) => fixture.send("GET", "/userinfo", bearer(token));

/** `success`, or the error. */
async function outcomeOfLogin(username: string, password: string): Promise<string> {
  const answer = await fixture.postJson("/login", { username, password });
  return (JSON.parse(answer.body.toString()) as { error?: string }).error ?? "success";
}

describe("a change with an access token", () => {
  test("sets the new password and ends every other session of the account, but not this one, nor others'", async () => {
    const { username, login } = await newcomer();
    const [own, other, another] = [await login(), await login(), await login({ client_id: "web" })];
    const stranger = await fixture.login();
    expectNoContent(await byToken(own.access_token));

    expect(await outcomeOfLogin(username, old)).toBe("invalid_credentials");
    expect(await outcomeOfLogin(username, fresh)).toBe("success");
    for (const ended of [other, another]) {
      expectInvalidToken(await asks(ended.access_token));
      expect((await fixture.send("GET", "/revocations")).body.toString()).toContain(ended.session_id);
    }
    expectBadRequest(await refresh(other.refresh_token), "invalid_grant");
    for (const going of [own, stranger]) {
      expect((await asks(going.access_token)).status).toBe(200);
      expect((await refresh(going.refresh_token)).status).toBe(200);
    }
  });

  test("is of the token's account, whoever is named besides", async () => {
    const [own, named] = [await newcomer(), await newcomer()];
    const { access_token } = await own.login();
    expectNoContent(await byToken(access_token, { username: named.username }));
    expect(await outcomeOfLogin(own.username, fresh)).toBe("success");
    expect(await outcomeOfLogin(named.username, old)).toBe("success");
  });

  test("needs the old password too: who holds the token alone cannot take the account over", async () => {
    const { login } = await newcomer();
    const { access_token } = await login();
    const answer = await expectNothingDone(fixture, () =>
      byToken(access_token, { current_password: "a wrong password, quite long" }),
    );
    expectBadRequest(answer, "invalid_credentials", 401);
  });

  test("with a token that is no good is refused, though a name and the right password are there", async () => {
    const { username } = await newcomer();
    expectInvalidToken(await expectNothingDone(fixture, () => byToken("x", { username })));
    expect(await outcomeOfLogin(username, old)).toBe("success");
  });
});

describe("a change by name and old password", () => {
  test("is the way through for an account that must change its password", async () => {
    const { username, login } = await newcomer();
    const before = await login();
    await manageAccounts(fixture.database.url, (accounts) => accounts.requirePasswordChange(username));
    expect(await outcomeOfLogin(username, old)).toBe("password_change_required");
    expect(await outcomeOfLogin(username, "a wrong password, quite long")).toBe("invalid_credentials");

    expectNoContent(await byName(username));
    expect(await outcomeOfLogin(username, old)).toBe("invalid_credentials");
    expect(await outcomeOfLogin(username, fresh)).toBe("success");
    expectInvalidToken(await asks(before.access_token));
    expectBadRequest(await refresh(before.refresh_token), "invalid_grant");
  });

  test("takes the name as it is typed at login, and a form", async () => {
    const { username } = await newcomer(`Ｆull ${randomUUID()}`);
    const parameters = {
      username: username.toUpperCase(),
      current_password: old,
      new_password: fresh,
    };
    expectNoContent(await fixture.postForm("/password", parameters));
    expect(await outcomeOfLogin(username, fresh)).toBe("success");
  });

  test("gives an unknown name, a wrong password and a disabled account one answer, and does nothing", async () => {
    const [known, disabled] = [await newcomer(), await newcomer()];
    await manageAccounts(fixture.database.url, (accounts) => accounts.disable(disabled.username));
    const answers = await expectNothingDone(fixture, async () => [
      await byName("nobody at all"),
      await byName(known.username, "a wrong password, quite long"),
      await byName(disabled.username),
      // A new password that may not be set is no way to learn whether the old one is right.
      await byName(known.username, "a wrong password, quite long", "short"),
      await byName("nobody at all", old, "short"),
    ]);
    const told = answers.map((answer) => expectBadRequest(answer, "invalid_credentials", 401));
    expect(new Set(told).size).toBe(1);
  });

  test("and the refusals before it are on record, without names or passwords", async () => {
    const { username } = await newcomer();
    await byName(username, "a wrong password, quite long");
    expectNoContent(await byName(username));
    const { pool } = fixture.database;
    const id = "select id from keyfleet.accounts where username = $1";
    await eventually(async () => {
      const { rows } = await pool.query(
        `select actor, address from keyfleet.audit_events
         where event = 'password_set' and account_id = (${id}) and actor = 'account:' || account_id`,
        [username],
      );
      const refused = await pool.query(
        `select from keyfleet.audit_events
         where event = 'password_change_refused' and detail = 'invalid_credentials' and address = '127.0.0.1'`,
      );
      return rows.length === 1 && rows[0].address === "127.0.0.1" && (refused.rowCount ?? 0) > 0;
    });
    const { rows } = await pool.query("select e::text as text from keyfleet.audit_events e");
    expect(rows.map(({ text }) => text).join()).not.toContain(username);
    fixture.keepSecret(fresh);
  });
});

describe("a new password", () => {
  const good: [string, string][] = [
    ["of 15 characters", "fifteen chars.!"],
    [
      "of 256 code points outside the first plane",
      String.fromCodePoint(...Array.from({ length: 256 }, (_, i) => 0x1f300 + i)),
    ],
    ["of any script, with spaces and a NUL", "пароль из\u0000 слов 漢字 ok"],
  ];
  test.each(good)("%s is taken, and is good at login", async (_name, password) => {
    const { username } = await newcomer();
    expectNoContent(await byName(username, old, password));
    expect(await outcomeOfLogin(username, password)).toBe("success");
    expect(await outcomeOfLogin(username, `${password.slice(0, -2)}`)).toBe("invalid_credentials");
  });

  test("is the same in every normal form", async () => {
    const { username } = await newcomer();
    expectNoContent(await byName(username, old, "crème brûlée à volonté".normalize("NFD")));
    expect(await outcomeOfLogin(username, "crème brûlée à volonté".normalize("NFC"))).toBe("success");
  });

  const bad: [string, string][] = [
    ["of 14 characters", "fourteen char!"],
    ["of 257 code points", "abcdefgh-".repeat(29).slice(0, 257)],
    ["that everybody uses", "password12345678"],
    ["that repeats a word", "keykeykeykeykeykey"],
    ["that is a sequence", "abcdefghijklmnopqrstuvwxyz"],
    ["that is the current one", old],
    ["that is not well-formed", "fifteen chars.!\ud800"],
  ];
  test.each(bad)("%s is refused, by either way, and the old one stays", async (_name, password) => {
    const { username, login } = await newcomer();
    const { access_token } = await login();
    const answers = await expectNothingDone(fixture, async () => [
      await byName(username, old, password),
      await byToken(access_token, { new_password: password }),
    ]);
    for (const answer of answers) {
      expectBadRequest(answer, "invalid_request");
      expect(everything(answer)).not.toContain(password);
    }
    expect(await outcomeOfLogin(username, old)).toBe("success");
  });

  test("that is the current one in another normal form, or holds the username, is refused", async () => {
    const { username } = await newcomer();
    const accented = "crème brûlée à volonté";
    expectNoContent(await byName(username, old, accented.normalize("NFC")));
    const again = byName(username, accented.normalize("NFC"), accented.normalize("NFD"));
    expectBadRequest(await again, "invalid_request");
    expectBadRequest(await byName(username, accented, `my ${username}`), "invalid_request");
    expect(await outcomeOfLogin(username, accented)).toBe("success");
  });

  test.each([1, null, true, {}, ["a password of some length"]])("%j is malformed", async (value) => {
    const { username } = await newcomer();
    for (const name of ["new_password", "current_password", "username"]) {
      const members = { username, current_password: old, new_password: fresh, [name]: value };
      const ask = () => fixture.postJson("/password", members);
      expectBadRequest(await expectNothingDone(fixture, ask), "invalid_request");
    }
  });
});

test("a change that is in flight while an administrator sets the password does not undo that", async () => {
  const { username } = await newcomer();
  const { pool } = fixture.database;
  const waiting = async () => {
    const { rowCount } = await pool.query(
      `select from pg_stat_activity where datname = current_database()
         and wait_event_type = 'Lock' and query like '%change_account%'`,
    );
    return rowCount;
  };
  const locking = await pool.connect();
  try {
    await locking.query("begin");
    await locking.query("select from keyfleet.accounts where username = $1 for update", [username]);
    const set = "what the administrator has set";
    const administrator = manageAccounts(fixture.database.url, (a) => a.setPassword(username, set));
    await eventually(async () => (await waiting()) === 1);
    const stolen = byName(username, old, "what the thief would like");
    await eventually(async () => (await waiting()) === 2);
    await locking.query("commit");
    await administrator;
    expectBadRequest(await stolen, "temporarily_unavailable", 503);
    expect(await outcomeOfLogin(username, set)).toBe("success");
    expect(await outcomeOfLogin(username, "what the thief would like")).toBe("invalid_credentials");
  } finally {
    locking.release(true);
  }
});

// A good token gets as far as the new password, which is too short: so that nothing changes, however often it is asked.
const endpoint = {
  fixture: () => fixture,
  method: "POST",
  target: "/password",
  body: JSON.stringify({ username: alice.username, current_password: old, new_password: "short" }),
  accepted: 400,
};
describeAccountTokenRules(endpoint);
describe("POST /password refuses, whatever name and password are there", () => {
  const ask = (authorization: string) =>
    fixture.send("POST", "/password", { ...jsonType, authorization }, endpoint.body);
  let forger: Forger;
  beforeAll(async () => {
    forger = await createForger(fixture);
  });

  test("nothing of a token that is good: the control of what follows", async () => {
    for (const token of [await flawless(forger), forger.good]) {
      expectBadRequest(await ask(`Bearer ${token}`), "invalid_request");
    }
  });

  test.each(strangeTokens)("$name", async ({ make }) => {
    const token = await make(forger);
    expectInvalidToken(await expectNothingDone(fixture, () => ask(`Bearer ${token}`)));
  });

  test.each(["", "Bearer", "Basic c2hvcDp4", "Token x"])("the credentials '%s'", async (authorization) => {
    expectNoCredentials(await expectNothingDone(fixture, () => ask(authorization)));
  });
});
describeMethodRules({ fixture: () => fixture, path: "/password", allowed: ["POST"] });
describeFormRules({
  fixture: () => fixture,
  path: "/password",
  parameters: { username: alice.username, current_password: old, new_password: fresh },
  required: ["username", "current_password", "new_password"],
  read: ["username", "current_password", "new_password"],
  takesJson: true,
});
describeOutage(
  () => fixture,
  async () => {
    const [one, two] = [await newcomer(), await newcomer()];
    const { access_token } = await one.login();
    return [() => byToken(access_token), () => byName(two.username)];
  },
);
