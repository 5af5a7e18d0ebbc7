/**
 * Stock consumers in Go, Python, Java and Rust, each as its library is set up by default: where a language's tools are
 * not on the machine, or its libraries cannot be had, its consumers are missing, and named.
 */

import path from "node:path";
import { type Built, build, type Command, missingTool, type Recipe } from "./build.ts";
import { Refused, startLineProcess } from "./line-process.ts";

export interface ForeignConsumer {
  readonly name: string;
  /** How long it may go on with the keys it has read, whatever kid it meets. */
  readonly staleMs: number;
  /** The token's subject; throws `Refused` with the library's own words. */
  verify(token: string): Promise<string>;
  close(): Promise<void>;
}

/** All that a resource server is told. */
export interface ForeignTrust {
  readonly issuer: string;
  readonly audience: string;
  readonly jwksUrl: URL;
}

export interface ForeignKind {
  readonly name: string;
  /** How long it waits, by default, before it reads again for a kid that it does not know. 0: it reads at once. */
  readonly defaultCooldownMs: number;
  /** How it says that it was not answered in the time that it waits, where that is short. */
  readonly unanswered?: RegExp;
  /** How each says why: a refusal for another reason would prove nothing. */
  readonly unknownKey: RegExp;
  readonly badSignature: RegExp;
  readonly wrongAudience: RegExp;
  /** `cooldownMs`: in place of the default, for those that have one. */
  start(trust: ForeignTrust, cooldownMs?: number): ForeignConsumer;
}

export interface ForeignKinds {
  readonly kinds: readonly ForeignKind[];
  /** `NAME: why`. */
  readonly missing: readonly string[];
}

interface Language extends Recipe {
  readonly consumers: readonly (Omit<ForeignKind, "start"> & { command(built: Built): Command })[];
}

const java = (mainClass: string) => ({
  command: ({ directory }: Built): Command => ({
    // Four of them share two cores with a fleet.
    argv: [
      "java",
      "-XX:TieredStopAtLevel=1",
      "-Xmx128m",
      "-cp",
      `${directory}:${directory}/lib/*`,
      mainClass,
    ],
  }),
});

const languages: readonly Language[] = [
  {
    folder: "go",
    tools: [["go", "version"]],
    commands: ({ directory }) => [
      { argv: ["go", "build", "-o", directory, "."], environment: { GOTOOLCHAIN: "local", GOWORK: "off" } },
    ],
    consumers: [
      {
        name: "Go: go-oidc",
        defaultCooldownMs: 0,
        unknownKey: /failed to verify id token signature/,
        badSignature: /failed to verify signature/,
        wrongAudience: /expected audience/,
        command: ({ directory }) => ({ argv: [path.join(directory, "consumer")] }),
      },
    ],
  },
  {
    folder: "python",
    tools: [["python3", "-m", "pip", "--version"]],
    commands: ({ directory }) => [
      {
        argv: [
          "python3",
          "-m",
          "pip",
          "install",
          "-q",
          "--require-hashes",
          "-t",
          directory,
          "-r",
          "requirements.txt",
        ],
      },
    ],
    consumers: [
      {
        name: "Python: PyJWT",
        defaultCooldownMs: 30_000,
        unknownKey: /^Unable to find a signing key/,
        badSignature: /^Signature verification failed$/,
        wrongAudience: /^Audience doesn't match$/,
        command: ({ directory, source }) => ({
          argv: ["python3", path.join(source, "consumer.py")],
          environment: { PYTHONPATH: directory },
        }),
      },
    ],
  },
  {
    folder: "java",
    tools: [
      ["mvn", "--version"],
      ["javac", "--version"],
      ["java", "--version"],
    ],
    commands: ({ directory }, files) => [
      {
        argv: [
          ...["mvn", "--quiet", "--batch-mode", "--strict-checksums"],
          "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies",
          `-DoutputDirectory=${directory}/lib`,
        ],
      },
      {
        argv: [
          ...["javac", "-d", directory, "-cp", `${directory}/lib/*`],
          ...files.filter((file) => file.endsWith(".java")),
        ],
      },
    ],
    consumers: [
      {
        name: "Java: jose4j",
        defaultCooldownMs: 300,
        unknownKey: /Unable to find a suitable verification key/,
        badSignature: /rejected due to invalid signature/,
        wrongAudience: /Audience \(aud\) claim/,
        ...java("Jose4j"),
      },
      {
        name: "Java: Nimbus",
        defaultCooldownMs: 30_000,
        // After 500 ms, which a busy machine takes to start an instance.
        unanswered: /Read timed out/,
        unknownKey: /: unknown key$|RateLimitReachedException/,
        badSignature: /: signature verification failed$/,
        wrongAudience: /: JWT aud claim/,
        ...java("Nimbus"),
      },
    ],
  },
  {
    folder: "rust",
    tools: [["cargo", "--version"]],
    commands: ({ directory }) => [
      { argv: ["cargo", "build", "--quiet", "--release", "--locked", "--target-dir", directory] },
    ],
    consumers: [
      {
        name: "Rust: jsonwebtoken",
        defaultCooldownMs: 30_000,
        unknownKey: /^unknown key$/,
        badSignature: /^InvalidSignature$/,
        wrongAudience: /^InvalidAudience$/,
        command: ({ directory }) => ({ argv: [path.join(directory, "release", "consumer")] }),
      },
    ],
  },
];

/** Builds whatever can be built here. */
export async function prepareForeignConsumers(): Promise<ForeignKinds> {
  const kinds: ForeignKind[] = [];
  const missing: string[] = [];
  for (const language of languages) {
    const found = await prepare(language).catch((error: Error) => error.message);
    if (typeof found !== "string") kinds.push(...found);
    else missing.push(...language.consumers.map(({ name }) => `${name}: ${found}`));
  }
  return { kinds, missing };
}

/** Each has to say something of what is no token: then it runs here. */
async function prepare(language: Language): Promise<readonly ForeignKind[]> {
  const why = missingTool(language);
  if (why !== undefined) throw new Error(why);
  const built = await build(language);
  const nobody = { issuer: "", audience: "", jwksUrl: new URL("http://127.0.0.1:9/") };
  return Promise.all(
    language.consumers.map(async ({ command, ...kind }) => {
      const start = starter(kind, command(built));
      const consumer = start(nobody);
      const error = await consumer.verify("x").catch((reason: Error) => reason);
      await consumer.close();
      if (!(error instanceof Refused)) throw error;
      return { ...kind, start };
    }),
  );
}

function starter({ name, defaultCooldownMs }: Omit<ForeignKind, "start">, command: Command) {
  return ({ issuer, audience, jwksUrl }: ForeignTrust, cooldownMs?: number): ForeignConsumer => {
    const settings = cooldownMs === undefined ? [] : [String(cooldownMs)];
    const argv = [...command.argv, issuer, audience, jwksUrl.href, ...settings];
    const process = startLineProcess({ ...command, argv });
    const staleMs = defaultCooldownMs === 0 ? 0 : (cooldownMs ?? defaultCooldownMs);
    return { name, staleMs, ...process };
  };
}
