/** Several instances on one machine: each a process with its own keys, on one database, under one issuer. */

import { type ChildProcess, spawn } from "node:child_process";
import { developmentSecretFile } from "../development.ts";
import { secureHeapFlags } from "../keys/secure-heap.ts";
import { printBanner, type ServedInstance } from "./banner.ts";
import type { ServeMessage, Serving } from "./serving.ts";
import { shutdownSignal } from "./shutdown-signal.ts";

interface InstanceProcess {
  readonly child: ChildProcess;
  readonly listening: Promise<ServedInstance>;
  readonly ready: Promise<void>;
  readonly exited: Promise<void>;
}

/** Ports count up from PORT and METRICS_PORT. Ends when asked to, or when the last instance has ended. */
export async function serveFleet(fleet: Serving, instances: number): Promise<void> {
  const { logger, config, environment, showBanner } = fleet;
  const underNpm = environment["npm_lifecycle_event"] !== undefined;
  const processes: InstanceProcess[] = [];
  const signalAll = (name: NodeJS.Signals) => {
    for (const { child } of processes) child.kill(name);
  };
  const signal = shutdownSignal(logger, { underNpm, beforeEndingAtOnce: () => signalAll("SIGKILL") });
  const first = startInstance(fleet, 0, config.issuer);
  processes.push(first);
  const { issuer } = await first.listening;
  for (let index = 1; index < instances; index += 1) processes.push(startInstance(fleet, index, issuer));
  for (const { child, exited } of processes) {
    void exited.then(() => {
      if (!signal.received())
        logger.error({ process_id: child.pid, code: child.exitCode }, "an instance ended");
    });
  }
  const allReady = Promise.all(processes.map((process) => process.ready));
  const allExited = Promise.all(processes.map((process) => process.exited));
  await Promise.race([allReady, signal, allExited]);
  if (!signal.received() && showBanner) {
    printBanner(await Promise.all(processes.map((process) => process.listening)), fleet.demo);
  }
  await Promise.race([signal, allExited]);
  signalAll("SIGTERM");
  await allExited;
}

function startInstance(fleet: Serving, index: number, issuer: string | undefined): InstanceProcess {
  const { config, environment, database } = fleet;
  const consecutive = (port: number) => String(port === 0 ? 0 : port + index);
  const secret = environment["FLEET_SECRET"] || environment["FLEET_SECRET_FILE"];
  const child = spawn(process.execPath, [...secureHeapFlags, process.argv[1] ?? "", "serve", "--no-banner"], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
    env: {
      ...environment,
      ...(secret ? {} : { FLEET_SECRET_FILE: developmentSecretFile() }),
      ...(issuer === undefined ? {} : { ISSUER: issuer }),
      DATABASE_URL: database.url,
      DATABASE_LISTEN_URL: database.listenUrl,
      PORT: consecutive(config.port),
      METRICS_PORT: consecutive(config.metricsPort),
    },
  });
  const exited = new Promise<void>((resolve) => {
    child.once("exit", () => resolve());
    child.once("error", () => resolve());
  });
  const told = <Type extends ServeMessage["type"]>(type: Type) =>
    new Promise<Extract<ServeMessage, { type: Type }>>((resolve, reject) => {
      child.on("message", (message: ServeMessage) => {
        if (message.type === type) resolve(message as Extract<ServeMessage, { type: Type }>);
      });
      void exited.then(() => reject(new Error("an instance ended before it was ready")));
    });
  const listening = told("listening");
  const ready = told("ready").then(() => undefined);
  listening.catch(() => undefined);
  ready.catch(() => undefined);
  return { child, listening, ready, exited };
}
