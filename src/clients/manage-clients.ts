/** What an administrator does to clients. */

import type { Acting } from "../audit.ts";
import { Refusal } from "../errors.ts";
import type { FleetSecrets } from "../fleet-secret.ts";
import { clientIdPattern, firstPartyClientId, scopeTokenPattern } from "../protocol/oauth.ts";
import { createClientSecret, hashClientSecret, sealClient } from "./client.ts";
import type { ClientAdministrationStore, ClientListing } from "./client-store.ts";

export interface NewClient {
  readonly id: string;
  readonly audiences: readonly string[];
  readonly scopes: readonly string[];
}

export interface ClientManagement {
  /** Returns the secret, which is kept nowhere. Throws `invalid_request`. */
  add(client: NewClient): Promise<string>;
  list(): Promise<readonly ClientListing[]>;
  /** Throws `not_found`. */
  remove(clientId: string): Promise<void>;
}

/** A `sub` is either an account's UUID or a client's id: never both (RFC 9700 §4.15). */
const uuidPattern = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export function createClientManagement(deps: {
  readonly store: ClientAdministrationStore;
  readonly secrets: FleetSecrets;
  readonly allowedAudiences: readonly string[];
  readonly who: Acting;
}): ClientManagement {
  const { store, secrets, allowedAudiences, who } = deps;

  function refuseBadInput({ id, audiences, scopes }: NewClient): void {
    const isReserved = id === firstPartyClientId || uuidPattern.test(id);
    if (!clientIdPattern.test(id) || isReserved) {
      throw badInput("a client id has 1 to 64 printable characters, is no UUID and not first-party");
    }
    if (!audiences.every((audience) => allowedAudiences.includes(audience))) {
      throw badInput("an audience is not one that this server issues tokens for");
    }
    if (!scopes.every((scope) => scopeTokenPattern.test(scope)) || scopes.join(" ").length > 256) {
      throw badInput("scopes are malformed, or over 256 characters together");
    }
  }

  return {
    async add(client) {
      refuseBadInput(client);
      const secret = createClientSecret();
      const audiences = client.audiences.length > 0 ? client.audiences : allowedAudiences.slice(0, 1);
      const scopes = [...new Set(client.scopes)].sort();
      const facts = { id: client.id, secretHash: hashClientSecret(secret), audiences, scopes };
      if (!(await store.insert(sealClient(secrets, facts), who)))
        throw badInput("a client of this id exists");
      return secret;
    },
    list: () => store.list(),
    async remove(clientId) {
      if (!(await store.remove(clientId, who))) {
        throw new Refusal("not_found", { description: "there is no client of this id" });
      }
    },
  };
}

function badInput(description: string): Refusal {
  return new Refusal("invalid_request", { description });
}
