/** A TCP proxy in front of Postgres that counts what the instance sends, every query a message or more, and what it hears. */

import { endTogether, startProxyServer } from "../support/proxy-server.ts";

export interface CountingProxy {
  /** The database's url, through the proxy. */
  readonly url: string;
  /** Messages from the instance so far; one query in flight on a connection means at least one of them. */
  messages(): number;
  /** Messages to the instance so far, notifications among them. */
  answers(): number;
  close(): Promise<void>;
}

export async function startCountingProxy(
  databaseUrl: string,
  onSent: (text: string) => void = () => undefined,
): Promise<CountingProxy> {
  let messages = 0;
  let answers = 0;
  const { url, close } = await startProxyServer(databaseUrl, (client, openUpstream) => {
    const upstream = openUpstream();
    client.on("data", (bytes) => {
      messages += 1;
      onSent(bytes.toString("latin1"));
    });
    upstream.on("data", () => {
      answers += 1;
    });
    client.pipe(upstream).pipe(client);
    endTogether(client, upstream);
  });

  return {
    url,
    messages: () => messages,
    answers: () => answers,
    close,
  };
}
