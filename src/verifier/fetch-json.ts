/**
 * Requests to the issuer: bounded in time and size. A redirect is not followed: it is an answer like any that is not
 * 200 (`redirect: "manual"` would say so, but not every runtime knows it).
 */

export interface JsonAnswer {
  readonly status: number;
  /** Parsed where the status is 200 and the body is JSON; undefined otherwise. */
  readonly body: unknown;
}

export interface RequestLimits {
  readonly timeoutMs: number;
  readonly maxBytes: number;
}

/** Throws where there is no answer: network, timeout, a body beyond its bound. */
export async function fetchJson(
  fetch: typeof globalThis.fetch,
  url: string,
  limits: RequestLimits,
  init: RequestInit = {},
): Promise<JsonAnswer> {
  const signal = AbortSignal.timeout(limits.timeoutMs);
  const response = await fetchUnbroken(fetch, url, { ...init, redirect: "manual", signal });
  if (response.status !== 200) {
    await response.body?.cancel();
    return { status: response.status, body: undefined };
  }
  const text = await readText(response, limits.maxBytes, signal);
  try {
    return { status: 200, body: JSON.parse(text) as unknown };
  } catch {
    return { status: 200, body: undefined };
  }
}

/**
 * A connection that is kept open may be closed just as it is used, as by an instance that is being replaced: then a
 * request that changes nothing is sent once more (RFC 9110 §9.2.2).
 */
async function fetchUnbroken(
  fetch: typeof globalThis.fetch,
  url: string,
  init: RequestInit,
): Promise<Response> {
  try {
    return await fetch(url, init);
  } catch (error) {
    if (!isBroken(error) || (init.method ?? "GET") !== "GET") throw error;
    return fetch(url, init);
  }
}

/** As Node says it; a runtime that says it otherwise has its own retry, or none. */
function isBroken(error: unknown): boolean {
  const { cause } = error as { readonly cause?: { readonly code?: unknown } };
  return ["ECONNRESET", "EPIPE", "UND_ERR_SOCKET"].includes(String(cause?.code));
}

async function readText(response: Response, maxBytes: number, signal: AbortSignal): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for await (const chunk of chunksOf(response, signal)) {
    bytes += chunk.byteLength;
    if (bytes > maxBytes) throw new Error("the issuer's answer is too large");
    text += decoder.decode(chunk, { stream: true });
  }
  signal.throwIfAborted();
  return text + decoder.decode();
}

/**
 * The chunks of a body, until it ends, the reader stops, or the signal aborts. The signal given to `fetch` does not
 * serve for that: Node 20 forgets it once its request is collected (seen), and the body goes on for ever.
 */
export async function* chunksOf(response: Response, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  const cancel = () => void reader.cancel().catch(() => undefined);
  signal.addEventListener("abort", cancel);
  try {
    while (!signal.aborted) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    signal.removeEventListener("abort", cancel);
    cancel();
  }
}
