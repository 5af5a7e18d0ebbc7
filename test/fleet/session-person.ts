/** A person with a client: what is asked of a fleet for one account, and nothing of what should be answered. */

import { randomBytes, randomUUID } from "node:crypto";
import { request } from "node:http";
import { expect } from "@jest/globals";
import type { AccountManagement } from "../../src/accounts/manage-accounts.ts";
import { createFleetSecrets } from "../../src/fleet-secret.ts";
import { encodeRefreshToken } from "../../src/tokens/refresh-token.ts";
import { alice } from "../support/accounts.ts";
import type { Answer, FleetMember, RestartingFleet } from "./restarting-fleet.ts";
import type { Ending } from "./session-actions.ts";

export interface Person {
  readonly accountId: string;
  login(slot: number): Promise<Answer>;
  refresh(slot: number, token: string): Promise<Answer>;
  /** Sends all of the request; the answer, if there is one, is not read. */
  refreshAndHangUp(member: FleetMember, token: string, afterMs: number): Promise<void>;
  /** Ends it, or more. Throws where it is not answered as it should be. */
  end(by: Ending, slot: number, tokens: { access: string; refresh: string }): Promise<void>;
  logoutByRefreshToken(slot: number, token: string): Promise<Answer>;
  introspect(slot: number, accessToken: string): Promise<Answer>;
  disable(): Promise<unknown>;
  enable(): Promise<unknown>;
}

const form = { "content-type": "application/x-www-form-urlencoded" };
const json = { "content-type": "application/json" };

export async function createPerson(options: {
  readonly fleet: RestartingFleet;
  readonly accounts: AccountManagement;
  /** Of the client that introspects: `Basic …`. */
  readonly introspector: string;
}): Promise<Person> {
  const { fleet, accounts, introspector } = options;
  const username = randomUUID();
  let password: string = alice.password;
  const { id: accountId } = await accounts.add(username, password, ["orders:read"]);

  const postJson = (slot: number, path: string, body: object, headers = {}) =>
    fleet.post(slot, path, { headers: { ...json, ...headers }, body: JSON.stringify(body) });
  const postForm = (slot: number, path: string, members: Record<string, string>, headers = {}) =>
    fleet.post(slot, path, {
      headers: { ...form, ...headers },
      body: new URLSearchParams(members).toString(),
    });
  const refreshGrant = (token: string) => ({ grant_type: "refresh_token", refresh_token: token });

  async function changePassword(slot: number, members: object, headers = {}): Promise<Answer> {
    const next = `${randomUUID()} staple`;
    const passwords = { current_password: password, new_password: next };
    const answer = await postJson(slot, "/password", { ...members, ...passwords }, headers);
    password = next;
    return answer;
  }

  return {
    accountId,
    login: (slot) => postJson(slot, "/login", { username, password }),
    refresh: (slot, token) => postForm(slot, "/token", refreshGrant(token)),
    refreshAndHangUp: ({ url }, token, afterMs) =>
      new Promise((resolve) => {
        const sent = request(`${url}/token`, { method: "POST", headers: form, agent: false });
        sent.on("error", () => resolve());
        sent.end(new URLSearchParams(refreshGrant(token)).toString(), () => {
          setTimeout(() => {
            sent.destroy();
            resolve();
          }, afterMs);
        });
      }),
    async end(by, slot, { access, refresh }) {
      const bearer = { authorization: `Bearer ${access}` };
      const ask: Record<Ending, () => Promise<Answer | undefined>> = {
        "logout by access token": () => postJson(slot, "/logout", {}, bearer),
        "logout by refresh token": () => postJson(slot, "/logout", { refresh_token: refresh }),
        "logout of all": () => postJson(slot, "/logout", { all: true }, bearer),
        "password change": () => changePassword(slot, {}, bearer),
        "password change by name": () => changePassword(slot, { username }),
        disabling: async () => void (await accounts.disable(username)),
      };
      const { status, lost } = (await ask[by]()) ?? { status: 204, lost: 0 };
      // Where an answer was lost, it may have been done already, and cannot be asked for any more.
      expect(lost > 0 ? [204, 401] : [204]).toContain(status);
    },
    logoutByRefreshToken: (slot, token) => postJson(slot, "/logout", { refresh_token: token }),
    introspect: (slot, token) => postForm(slot, "/introspect", { token }, { authorization: introspector }),
    disable: () => accounts.disable(username),
    enable: () => accounts.enable(username),
  };
}

/** For a session that exists, by somebody who does not know FLEET_SECRET. */
export function makeUpRefreshToken(sessionId: string, generation: number): string {
  const secrets = createFleetSecrets(randomBytes(32));
  return encodeRefreshToken(secrets, { sessionId, generation, secret: randomBytes(32) });
}
