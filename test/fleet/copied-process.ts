/**
 * Copies of a running process, as the copy of a machine makes them: started from one snapshot of its memory, in which a
 * heartbeat's answer is awaited. Only code that imports nothing but Node's own modules fits into one.
 */

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { transformFileSync } from "@swc/core";
import type { Beat, BeatOutcome, InstanceStore } from "../../src/fleet/instance.ts";

export interface CopiedProcess {
  /** The beats that were said before it was copied: the first was answered, the second is under way. */
  readonly beats: readonly Beat[];
  /** Has its heartbeat beat at the store. */
  beat(store: Pick<InstanceStore, "beat">): Promise<BeatOutcome>;
  stop(): Promise<void>;
}

const heartbeatPath = fileURLToPath(new URL("../../src/fleet/heartbeat.ts", import.meta.url));

function program(instanceId: string): string {
  const { code } = transformFileSync(heartbeatPath, {
    jsc: { target: "es2022", parser: { syntax: "typescript" } },
    module: { type: "commonjs" },
  });
  return `var exports = {};
    ${code}
    const beats = [];
    const answers = [{ outcome: "alive", beatAtMs: 0 }];
    let answer;
    const store = {
      register: () => Promise.reject(new Error("its row is there")),
      async beat(beat) {
        beats.push(beat);
        if (answers.length > 0) return answers.shift();
        if (answer === undefined) throw new Error("nobody answers");
        process.send(beat);
        return new Promise((resolve) => { answer = resolve; });
      },
    };
    const heartbeat = exports.createHeartbeat({
      instance: { id: "${instanceId}" }, store, isListening: () => true,
    });
    heartbeat.beat().then(() => heartbeat.beat()).catch(() => undefined);
    require("node:v8").startupSnapshot.setDeserializeMainFunction(() => {
      answer = () => undefined;
      process.on("message", (message) => {
        if (message !== "beat") answer(message);
        else heartbeat.beat().then((outcome) => process.send({ outcome }));
      });
      process.send({ beats });
    });`;
}

/** Two processes with the memory of one that beats under this id; the snapshot is written into the folder. */
export async function copyProcess(
  instanceId: string,
  folder: string,
): Promise<readonly [CopiedProcess, CopiedProcess]> {
  const [source, snapshot] = [path.join(folder, "program.js"), path.join(folder, "snapshot")];
  writeFileSync(source, program(instanceId));
  execFileSync(process.execPath, ["--snapshot-blob", snapshot, "--build-snapshot", source], { env: {} });
  return Promise.all([restore(snapshot), restore(snapshot)]);
}

async function restore(snapshot: string): Promise<CopiedProcess> {
  const child = spawn(process.execPath, ["--snapshot-blob", snapshot], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
    env: {},
  });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const { beats } = await told<{ readonly beats: readonly Beat[] }>(child);
  return {
    beats,
    async beat(store) {
      child.send("beat");
      child.send(await store.beat(await told<Beat>(child)));
      return (await told<{ readonly outcome: BeatOutcome }>(child)).outcome;
    },
    async stop() {
      child.kill("SIGKILL");
      await exited;
    },
  };
}

function told<Message>(child: ChildProcess): Promise<Message> {
  return new Promise((resolve, reject) => {
    child.once("message", (message) => resolve(message as Message));
    child.once("exit", () => reject(new Error("the process ended")));
  });
}
