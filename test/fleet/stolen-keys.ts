/** An instance that gives away its signing keys: what whoever reads a process's memory has. */

import { createPrivateKey, type JsonWebKey, sign } from "node:crypto";
import { decodeProtectedHeader } from "jose";
import { type StartOptions, startInstance, type TestInstance } from "../support/instance.ts";

/** Runs in the instance before its program does: keeps every key pair that is made, and answers who asks for them. */
const spy = `
  import crypto from "node:crypto";
  import { syncBuiltinESMExports } from "node:module";
  const make = crypto.generateKeyPairSync;
  const made = [];
  crypto.generateKeyPairSync = (...parameters) => {
    const pair = make(...parameters);
    made.push(pair.privateKey);
    return pair;
  };
  syncBuiltinESMExports();
  // Worker threads run this too, and have no channel.
  process.channel && process.on("message", (message) => {
    if (message !== "steal") return;
    process.send({ type: "stolen", keys: made.map((key) => key.export({ format: "jwk" })) });
  });
  process.channel?.unref();`;

export interface RobbedInstance extends TestInstance {
  /** Signs these claims under the key that signed `token`, and with its header. */
  forge(token: string, claims: object): Promise<string>;
}

export async function startRobbedInstance(options: StartOptions): Promise<RobbedInstance> {
  const spyUrl = `data:text/javascript,${encodeURIComponent(spy)}`;
  const instance = await startInstance({ ...options, nodeFlags: ["--import", spyUrl] });

  async function steal(x: string) {
    const stolen = new Promise<readonly JsonWebKey[]>((resolve) => {
      const hear = (message: { type?: string; keys?: readonly JsonWebKey[] }) => {
        if (message.type !== "stolen") return;
        instance.process.off("message", hear);
        resolve(message.keys ?? []);
      };
      instance.process.on("message", hear);
    });
    instance.process.send("steal");
    const key = (await stolen).find((each) => each.x === x);
    if (key === undefined) throw new Error("there is no such key to be stolen");
    return createPrivateKey({ key, format: "jwk" });
  }

  return {
    ...instance,
    async forge(token, claims) {
      const [header = ""] = token.split(".");
      const { kid = "" } = decodeProtectedHeader(token);
      const response = await fetch(`${instance.url}/.well-known/jwks/${kid}`);
      const { x } = (await response.json()) as { x: string };
      const input = `${header}.${Buffer.from(JSON.stringify(claims)).toString("base64url")}`;
      const signature = sign(null, Buffer.from(input), await steal(x));
      return `${input}.${signature.toString("base64url")}`;
    },
  };
}
