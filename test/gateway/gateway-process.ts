/** `keyfleet gateway` as a process of its own, and the service behind it. */

import { type ChildProcess, spawn } from "node:child_process";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { mainPath } from "../support/instance.ts";

export interface GatewayProcess {
  readonly url: string;
  readonly process: ChildProcess;
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

/** Resolves when it listens. */
export async function startGateway(flags: readonly string[]): Promise<GatewayProcess> {
  const child = spawn(process.execPath, [mainPath, "gateway", "--port", "0", ...flags], {
    stdio: ["ignore", "pipe", "pipe", "ipc"],
    env: { PATH: process.env["PATH"] },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (bytes: Buffer) => {
      output += bytes;
    });
  }
  const exited = new Promise<number | null>((resolve) => child.once("exit", resolve));
  const port = await new Promise<number>((resolve, reject) => {
    child.once("message", (message: { port: number }) => resolve(message.port));
    void exited.then((code) => reject(new Error(`the gateway ended with ${code}:\n${output}`)));
  });
  return {
    url: `http://127.0.0.1:${port}`,
    process: child,
    stop(signal = "SIGTERM") {
      child.kill(signal);
      return exited;
    },
  };
}

export interface Service {
  readonly url: string;
  /** The headers of the requests that reached it. */
  readonly received: IncomingHttpHeaders[];
  close(): Promise<void>;
}

/** Answers everything with 200. */
export async function startService(): Promise<Service> {
  const received: IncomingHttpHeaders[] = [];
  const server = createServer((request, response) => {
    received.push(request.headers);
    response.end("served");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
