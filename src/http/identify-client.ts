/** Which client asks: a confidential one by its secret, a public one by its name (RFC 6749 §2.3, §3.2.1). */

import type { Request } from "express";
import type { AuditLog } from "../audit.ts";
import type { Client } from "../clients/client.ts";
import {
  type AuthenticateClient,
  type ClientCredentials,
  parseBasic,
} from "../clients/client-authentication.ts";
import type { ClientStore } from "../clients/client-store.ts";
import { Refusal } from "../errors.ts";
import { authorizationHeaders } from "../protocol/bearer.ts";
import { firstPartyClientId } from "../protocol/oauth.ts";
import { actingOf } from "./acting.ts";

export interface ClientParameters {
  readonly client_id?: string | undefined;
  readonly client_secret?: string | undefined;
}

export interface ClientIdentification {
  /** An authenticated client; throws `invalid_client`. */
  authenticate(request: Request, parameters: ClientParameters): Promise<Client>;
  /** The id of whoever asks: authenticated where it is confidential. */
  identify(request: Request, parameters: ClientParameters): Promise<string>;
  /** The same where it is a person who authenticates: a left-over bearer token is nobody's attempt. */
  identifyAtLogin(request: Request, parameters: ClientParameters): Promise<string>;
}

export function createClientIdentification(deps: {
  readonly authenticateClient: AuthenticateClient;
  readonly store: ClientStore;
  readonly audit: AuditLog;
  readonly instanceId: string;
}): ClientIdentification {
  /** Every client that is refused is on record, whatever it is refused for. */
  async function recorded<Result>(request: Request, work: () => Promise<Result>): Promise<Result> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof Refusal && error.code === "invalid_client") {
        deps.audit.record({ event: "client_refused", who: actingOf(request, deps.instanceId) });
      }
      throw error;
    }
  }

  async function identify(parameters: ClientParameters, headers: readonly string[]): Promise<string> {
    const credentials = readCredentials(headers, parameters);
    if (credentials !== undefined) return (await deps.authenticateClient(credentials)).id;
    const { client_id: clientId = firstPartyClientId } = parameters;
    const isConfidential = clientId !== firstPartyClientId && (await deps.store.find(clientId)) !== undefined;
    if (isConfidential) throw new Refusal("invalid_client");
    return clientId;
  }

  return {
    authenticate: (request, parameters) =>
      recorded(request, async () => {
        const credentials = readCredentials(authorizationHeaders(request.rawHeaders), parameters);
        if (credentials === undefined) throw new Refusal("invalid_client");
        return deps.authenticateClient(credentials);
      }),
    identify: (request, parameters) =>
      recorded(request, () => identify(parameters, authorizationHeaders(request.rawHeaders))),
    identifyAtLogin: (request, parameters) =>
      recorded(request, () => identify(parameters, authorizationHeaders(request.rawHeaders).filter(isBasic))),
  };
}

const isBasic = (header: string) => /^basic( |$)/i.test(header);

/** One way at a time (RFC 6749 §2.3). Undefined only where the client did not try to authenticate. */
function readCredentials(
  [authorization, ...others]: readonly string[],
  { client_id: clientId, client_secret: clientSecret }: ClientParameters,
): ClientCredentials | undefined {
  if (authorization === undefined) {
    if (clientSecret === undefined) return undefined;
    if (clientId === undefined) throw new Refusal("invalid_client");
    return { clientId, clientSecret };
  }
  const basic = parseBasic(authorization);
  if (
    others.length > 0 ||
    clientSecret !== undefined ||
    (clientId !== undefined && clientId !== basic.clientId)
  ) {
    throw new Refusal("invalid_request", { description: "There is more than one client authentication." });
  }
  return basic;
}
