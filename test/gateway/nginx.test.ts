import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { addAccount, eventually, login } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { freePort } from "../support/free-port.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { type GatewayProcess, type Service, startGateway, startService } from "./gateway-process.ts";

const audience = "https://api.example";
const nginx = ["nginx", "/usr/sbin/nginx"].find((path) => spawnSync(path, ["-v"]).status === 0);
const recipe = readFileSync(new URL("../../deploy/nginx/keyfleet.conf", import.meta.url), "utf8");

const describeWithNginx = nginx === undefined ? describe.skip : describe;

describeWithNginx("deploy/nginx/keyfleet.conf (needs nginx on this machine)", () => {
  let database: TestDatabase;
  let instance: TestInstance;
  let gateway: GatewayProcess;
  let service: Service;
  let directory: string;
  let port: number;
  let stopNginx: (() => Promise<void>) | undefined;

  beforeAll(async () => {
    database = await freshDatabase();
    await addAccount(database.url);
    instance = await startInstance({ databaseUrl: database.url, settings: { AUDIENCES: audience } });
    service = await startService();
    const flags = ["--issuer", instance.issuer, "--audience", audience, "--when-stale", "reject"];
    gateway = await startGateway([...flags, "--max-staleness", "5s"]);
    await eventually(async () => (await fetch(`${gateway.url}/readyz`)).status === 200);
    directory = mkdtempSync(join(tmpdir(), "keyfleet-nginx-"));
    port = await freePort();
    stopNginx = await startNginx(recipe);
  }, 30_000);
  afterAll(async () => {
    await stopNginx?.();
    rmSync(directory, { recursive: true, force: true });
    await gateway.stop();
    await service.close();
    await instance.stop("SIGKILL");
    await database.drop();
  });

  /** The recipe as it is, but for its addresses. */
  async function startNginx(from: string): Promise<() => Promise<void>> {
    const site = from
      .replace("127.0.0.1:8090", new URL(gateway.url).host)
      .replace("127.0.0.1:3000", new URL(service.url).host)
      .replace("listen 8000", `listen 127.0.0.1:${port}`);
    const config = join(directory, "nginx.conf");
    const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
      .map((name) => `${name}_temp_path ${directory}/${name};`)
      .join("\n");
    writeFileSync(
      config,
      `daemon off; pid ${directory}/nginx.pid; error_log ${directory}/error.log;
       events {} http { access_log off; ${temporary}\n${site} }`,
    );
    execFileSync(nginx ?? "", ["-t", "-q", "-c", config], { stdio: "pipe" });
    const child = spawn(nginx ?? "", ["-c", config], { stdio: "ignore" });
    const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    await eventually(async () => (await ask({}).catch(() => ({ status: 0 }))).status === 401);
    return async () => {
      child.kill("SIGTERM");
      await exited;
    };
  }

  /** Headers as they are given, repeated ones too, which fetch would join. */
  function ask(headers: Readonly<Record<string, string | string[]>>) {
    return new Promise<{ status: number; headers: Record<string, unknown>; body: string }>(
      (resolve, reject) => {
        const sent = request({ host: "127.0.0.1", port, path: "/orders", headers }, (response) => {
          let body = "";
          response.setEncoding("utf8");
          response.on("data", (text: string) => {
            body += text;
          });
          response.on("end", () =>
            resolve({ status: response.statusCode ?? 0, headers: response.headers, body }),
          );
        });
        sent.on("error", reject);
        sent.end();
      },
    );
  }

  test("a good token reaches the service, as who it is and without the token; a forged header does not", async () => {
    const { access_token: token, session_id: sessionId } = await login(instance.url);
    const answer = await ask({
      authorization: `Bearer ${token}`,
      "x-auth-subject": "admin",
      "x-auth-scope": ["everything", "more"],
    });
    expect([answer.status, answer.body]).toEqual([200, "served"]);
    const received = service.received.at(-1) ?? {};
    expect(received["x-auth-session"]).toBe(sessionId);
    expect(received["x-auth-subject"]).not.toContain("admin");
    expect(received["x-auth-scope"]).toBe("orders:read orders:write");
    expect(received.authorization).toBeUndefined();
  });

  test("no token, a bad one and two headers are 401, 401 and 400, and reach nobody", async () => {
    const reached = service.received.length;
    const missing = await ask({});
    expect([missing.status, missing.headers["www-authenticate"]]).toEqual([401, 'Bearer realm="keyfleet"']);
    const bad = await ask({ authorization: "Bearer x.y.z" });
    expect([bad.status, bad.headers["www-authenticate"]]).toEqual([401, 'Bearer error="invalid_token"']);
    expect(JSON.parse(bad.body).error).toBe("invalid_token");
    const two = await ask({ authorization: ["Bearer a.b.c", "Bearer a.b.c"] });
    expect(two.status).toBe(400);
    expect(service.received.length).toBe(reached);
  });

  test("a scope that is asked for in the recipe is 403 with its challenge where it is missing", async () => {
    await stopNginx?.();
    const withScope = recipe.replace(
      "keyfleet_gateway/verify;",
      "keyfleet_gateway/verify?scope=orders:write;",
    );
    expect(withScope).not.toBe(recipe);
    stopNginx = await startNginx(withScope);
    const reached = service.received.length;
    const { access_token: reading } = await login(instance.url, { scope: "orders:read" });
    const denied = await ask({ authorization: `Bearer ${reading}` });
    expect([denied.status, JSON.parse(denied.body).error]).toEqual([403, "insufficient_scope"]);
    expect(denied.headers["www-authenticate"]).toBe(
      'Bearer error="insufficient_scope", scope="orders:write"',
    );
    expect(service.received.length).toBe(reached);
    const { access_token: writing } = await login(instance.url);
    expect((await ask({ authorization: `Bearer ${writing}` })).status).toBe(200);
  });

  test("a gateway that cannot judge is 503 with Retry-After, and nothing gets through", async () => {
    await stopNginx?.();
    const away = ["--issuer", "http://127.0.0.1:9", "--audience", audience, "--when-stale", "reject"];
    const unknowing = await startGateway(away);
    try {
      stopNginx = await startNginx(recipe.replace("127.0.0.1:8090", new URL(unknowing.url).host));
      const reached = service.received.length;
      const { access_token: token } = await login(instance.url);
      const unjudged = await ask({ authorization: `Bearer ${token}` });
      expect([unjudged.status, unjudged.headers["retry-after"]]).toEqual([503, "1"]);
      expect((await ask({})).status).toBe(401);
      expect(service.received.length).toBe(reached);
    } finally {
      await unknowing.stop();
      await stopNginx?.();
      stopNginx = await startNginx(recipe);
    }
  });

  test("a gateway that is gone is 503 with Retry-After, and nothing gets through", async () => {
    const { access_token: token } = await login(instance.url);
    expect((await ask({ authorization: `Bearer ${token}` })).status).toBe(200);
    const reached = service.received.length;
    await gateway.stop("SIGKILL");
    const gone = await ask({ authorization: `Bearer ${token}` });
    expect([gone.status, gone.headers["retry-after"]]).toEqual([503, "1"]);
    expect(JSON.parse(gone.body).error).toBe("temporarily_unavailable");
    expect(service.received.length).toBe(reached);
  });
});
