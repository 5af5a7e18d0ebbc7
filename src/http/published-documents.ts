/** What anyone may read: the JWK Set, single keys, and the two metadata documents, as prepared bytes. */

import { Refusal, unavailable } from "../errors.ts";
import type { Directory, DirectorySnapshot } from "../keys/directory.ts";
import { jwksText, toJwk } from "../keys/jwks-document.ts";
import type { SigningAlg } from "../protocol/jwk.ts";
import { endpointPaths, type ServerMetadata } from "../protocol/metadata.ts";
import { createHotDocument, type HotDocument } from "./hot-document.ts";

export type DocumentName = "jwks" | "jwk" | "metadata";

export interface PublishedDocument {
  readonly name: DocumentName;
  /** The bytes, or why there are none. */
  readonly content: HotDocument | Refusal;
}

export interface PublishedDocuments {
  /** By exact path, without a query; undefined where the path is none of a document. */
  find(path: string): PublishedDocument | undefined;
}

export interface PublishedDocumentsOptions {
  readonly issuer: string;
  readonly alg: SigningAlg;
  readonly jwksMaxAgeSeconds: number;
  readonly directory: Directory;
}

/** How long a shared cache may hide a new key: both together count against KEY_PROPAGATION_DELAY. */
export const sharedMaxAgeSeconds = 30;
export const staleWhileRevalidateSeconds = 30;

const clientAuthentication = ["client_secret_basic", "client_secret_post"];
const keyPathPrefix = "/.well-known/jwks/";

function serverMetadata({ issuer, alg }: PublishedDocumentsOptions): ServerMetadata {
  return {
    issuer,
    jwks_uri: issuer + endpointPaths.jwks,
    token_endpoint: issuer + endpointPaths.token,
    revocation_endpoint: issuer + endpointPaths.revoke,
    introspection_endpoint: issuer + endpointPaths.introspect,
    userinfo_endpoint: issuer + endpointPaths.userinfo,
    revocation_events_endpoint: issuer + endpointPaths.revocations,
    response_types_supported: [],
    grant_types_supported: ["refresh_token", "client_credentials"],
    token_endpoint_auth_methods_supported: [...clientAuthentication, "none"],
    revocation_endpoint_auth_methods_supported: [...clientAuthentication, "none"],
    introspection_endpoint_auth_methods_supported: clientAuthentication,
    subject_types_supported: ["public"],
    id_token_signing_alg_values_supported: [alg],
  };
}

/** Documents of keys are made anew when the keys change, and never by a query. */
export function createPublishedDocuments(options: PublishedDocumentsOptions): PublishedDocuments {
  const { directory, jwksMaxAgeSeconds } = options;
  const cacheControl =
    `public, max-age=${jwksMaxAgeSeconds}, s-maxage=${sharedMaxAgeSeconds}, ` +
    `stale-while-revalidate=${staleWhileRevalidateSeconds}, stale-if-error=86400`;
  const metadata = createHotDocument(
    JSON.stringify(serverMetadata(options)),
    "application/json",
    cacheControl,
  );
  let prepared: { readonly snapshot: DirectorySnapshot; readonly jwks: HotDocument } | undefined;
  let keys = new Map<string, HotDocument>();

  function jwks(): HotDocument {
    const snapshot = directory.snapshot();
    if (prepared?.snapshot !== snapshot) {
      const text = jwksText(snapshot.keys);
      prepared = { snapshot, jwks: createHotDocument(text, "application/jwk-set+json", cacheControl) };
      keys = new Map();
    }
    return prepared.jwks;
  }

  function key(kid: string): HotDocument | Refusal {
    jwks();
    const known = keys.get(kid);
    if (known !== undefined) return known;
    const found = directory.find(kid);
    if (found.status === "unknown") return new Refusal("unknown_key");
    if (found.status === "revoked") return new Refusal("revoked_key");
    const document = createHotDocument(
      JSON.stringify(toJwk(found.key)),
      "application/jwk+json",
      cacheControl,
    );
    keys.set(kid, document);
    return document;
  }

  return {
    find(path) {
      if (path === endpointPaths.openidConfiguration || path === endpointPaths.oauthMetadata) {
        return { name: "metadata", content: metadata };
      }
      const isSet = path === endpointPaths.jwks;
      if (!isSet && !path.startsWith(keyPathPrefix)) return undefined;
      const name = isSet ? "jwks" : "jwk";
      if (!directory.isLoaded()) return { name, content: unavailable("The keys are being loaded.") };
      return { name, content: isSet ? jwks() : key(path.slice(keyPathPrefix.length)) };
    },
  };
}
