/** Client authentication by `client_secret_basic` and `client_secret_post` (RFC 6749 §2.3.1). */

import { Refusal } from "../errors.ts";
import type { FleetSecrets } from "../fleet-secret.ts";
import { clientIdPattern } from "../protocol/oauth.ts";
import { type Client, type ClientFacts, isClientSealed, isClientSecret } from "./client.ts";
import type { ClientStore } from "./client-store.ts";

export interface ClientCredentials {
  readonly clientId: string;
  readonly clientSecret: string;
}

/** Throws `invalid_client` for an unknown client and a wrong secret alike. */
export type AuthenticateClient = (credentials: ClientCredentials) => Promise<Client>;

/** Stands in for a client that does not exist: the comparison is made all the same. */
const nobody: ClientFacts = { id: "", secretHash: Buffer.alloc(32), audiences: [], scopes: [] };

export function createClientAuthentication(deps: {
  readonly store: ClientStore;
  readonly secrets: FleetSecrets;
  /** A client whose row no instance made: it is treated as if it did not exist. */
  onForgedClient(clientId: string): void;
}): AuthenticateClient {
  return async ({ clientId, clientSecret }) => {
    if (!clientIdPattern.test(clientId)) throw new Refusal("invalid_client");
    const found = await deps.store.find(clientId);
    const isGenuine = found !== undefined && found.id === clientId && isClientSealed(deps.secrets, found);
    if (found !== undefined && !isGenuine) deps.onForgedClient(clientId);
    const matches = isClientSecret(isGenuine ? found : nobody, clientSecret);
    if (!isGenuine || !matches) throw new Refusal("invalid_client");
    return found;
  };
}

/** Throws `invalid_client` where the header is malformed, or of another scheme. */
export function parseBasic(authorization: string): ClientCredentials {
  const encoded = /^Basic +([A-Za-z0-9+/]+=*)$/i.exec(authorization)?.[1];
  if (encoded === undefined) throw new Refusal("invalid_client");
  const decoded = Buffer.from(encoded, "base64").toString();
  const colon = decoded.indexOf(":");
  if (colon < 0) throw new Refusal("invalid_client");
  const decodePart = (part: string) => decodeURIComponent(part.replaceAll("+", " "));
  try {
    return {
      clientId: decodePart(decoded.slice(0, colon)),
      clientSecret: decodePart(decoded.slice(colon + 1)),
    };
  } catch {
    throw new Refusal("invalid_client");
  }
}
