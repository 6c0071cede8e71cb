/**
 * The KMS over HTTP: limits first, then schemas, then one decision, then one log line.
 *
 * Invariants: a request costs bounded memory and time before it is known to be worth anything (connections, header
 * and body sizes, rates, timeouts); whatever happens inside becomes a refusal with a code, never a stack trace;
 * log lines are built from ids, codes and numbers, so there is no place where a secret could enter one.
 */
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { deriveKmsKey } from "@caisson/protocol/derivation";
import { identityKey } from "@caisson/protocol/ed25519";
import {
  helloRequestSchema,
  helloTranscript,
  keyReleasePaths,
  keyReleaseVersion,
  type Refusal,
  releaseRequestSchema,
  requestLimit,
} from "@caisson/protocol/key-release";
import { createAdaptorServer, type HttpBindings } from "@hono/node-server";
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { CollateralCache, loadCollateral } from "./collateral-cache.ts";
import { KmsError } from "./errors.ts";
import { Metrics } from "./metrics.ts";
import { Nonces } from "./nonces.ts";
import { loadPolicies } from "./policies.ts";
import { type Rate, RateLimiter } from "./rate-limit.ts";
import { type ReleaseContext, releaseKeys } from "./release.ts";
import { ReleaseLog } from "./release-log.ts";
import { dataFiles, openRootSecret } from "./root-secret.ts";

export interface KmsOptions {
  /** Directory of root secret and release log; made where there is none. */
  data: string;
  /** Directory of policy files and manifests (policies.ts). */
  policies: string;
  /** Port 0 takes a free one. */
  host: string;
  port: number;
  /** Allow policies that accept evidence of the emulated platform. Default: such a policy is an error. */
  development?: boolean;
  /** Directory of collateral documents, which go before what guests bring (collateral-cache.ts). */
  collateral?: string;
  /** Where log lines go, one JSON object each. Default: nowhere. */
  log?: (line: string) => void;
  /** Requests a second, for each address and for all. */
  perAddress?: Rate;
  common?: Rate;
  /** Milliseconds since 1970. Default: the system clock. */
  now?: () => number;
}

export interface Kms {
  url: string;
  /** Ed25519 public key, hex: what images pin and guests measure. */
  identityKey: string;
  /** Lets requests that are under way finish (2 s at most), then closes the log. */
  close(): Promise<void>;
}

/** Limits of one server. A guest needs two requests for a boot. */
const defaults = {
  perAddress: { perSecond: 5, burst: 40 },
  common: { perSecond: 2000, burst: 4000 },
  connections: 512,
  headerBytes: 8 * 1024,
  requestMs: 10_000,
  idleMs: 5_000,
  shutdownMs: 2_000,
};

/** Starts a KMS and resolves once it listens. Throws KmsError. */
export async function startKms(options: KmsOptions): Promise<Kms> {
  const secret = openRootSecret(options.data);
  const identity = identityKey(deriveKmsKey(secret, "identity"));
  const policies = loadPolicies(options.policies, identity.publicKey.toHex(), options.development ?? false);
  const own = options.collateral === undefined ? undefined : loadCollateral(options.collateral);
  const log = new ReleaseLog(join(options.data, dataFiles.releaseLog), identity);
  const context: ReleaseContext = {
    secret,
    identity,
    policies,
    log,
    collateral: new CollateralCache(own),
    nonces: new Nonces(),
    now: options.now ?? Date.now,
  };
  const write: WriteLine = (event, fields = {}) =>
    options.log?.(JSON.stringify({ time: new Date(context.now()).toISOString(), event, ...fields }));
  const app = routes(context, options, write);
  const server = createAdaptorServer({
    fetch: app.fetch,
    serverOptions: {
      maxHeaderSize: defaults.headerBytes,
      requestTimeout: defaults.requestMs,
      headersTimeout: defaults.requestMs,
      keepAliveTimeout: defaults.idleMs,
      connectionsCheckingInterval: 1000,
    },
  }) as Server;
  server.maxConnections = defaults.connections;
  try {
    await listen(server, options.host, options.port);
  } catch (error) {
    log.close();
    throw new KmsError(
      "kms/listen",
      `cannot listen on ${options.host}:${options.port}: ${(error as Error).message}`,
    );
  }
  const { port } = server.address() as AddressInfo;
  const host = options.host.includes(":") ? `[${options.host}]` : options.host;
  const url = `http://${host}:${port}`;
  for (const [id, { digest, keyVersion }] of policies)
    write("policy", { app: id, keyVersion, digest: digest.toHex() });
  write("started", { url, identityKey: identity.publicKey.toHex(), logEntries: log.head().sequence });
  let closed: Promise<void> | undefined;
  const close = async () => {
    await stop(server);
    write("stopped", { logEntries: log.head().sequence });
    log.close();
  };
  return { url, identityKey: identity.publicKey.toHex(), close: () => (closed ??= close()) };
}

type Environment = { Bindings: HttpBindings };

/** One log line: ids, codes and numbers only. */
type WriteLine = (event: string, fields?: Record<string, string | number>) => void;

function routes(context: ReleaseContext, options: KmsOptions, write: WriteLine): Hono<Environment> {
  const app = new Hono<Environment>();
  const metrics = new Metrics();
  const limiter = new RateLimiter(
    options.perAddress ?? defaults.perAddress,
    options.common ?? defaults.common,
  );

  const address = (c: Context<Environment>) => c.env.incoming.socket.remoteAddress ?? "unknown";

  /** An answer outside of any exchange, which therefore cannot be signed. */
  const refuse = (
    c: Context<Environment>,
    status: 400 | 404 | 413 | 429 | 500,
    code: string,
    message: string,
  ) => {
    metrics.count("refused", `code="${code}"`);
    write("refused", { code, address: address(c), path: c.req.path.slice(0, 64) });
    return c.json({ error: { code, message } } satisfies Refusal, status);
  };

  app.onError((error, c) => {
    write("failed", { error: error.message });
    return refuse(c, 500, "http/internal", "the KMS failed on this request");
  });
  app.notFound((c) => refuse(c, 404, "http/not-found", "there is nothing here"));

  app.get("/healthz", (c) => c.json({ status: "ok", identityKey: context.identity.publicKey.toHex() }));
  app.get("/metrics", (c) => c.text(metrics.render(context.log.head().sequence)));
  app.get("/v1/log/head", (c) => c.json(context.log.head()));

  app.use("/v1/*", async (c, next) => {
    if (limiter.take(address(c), context.now())) return next();
    c.header("retry-after", "1");
    return refuse(c, 429, "http/rate-limited", "too many requests; try again in a second");
  });
  app.use(
    "/v1/*",
    bodyLimit({
      maxSize: requestLimit,
      onError: (c) =>
        refuse(
          c as Context<Environment>,
          413,
          "http/too-large",
          `a request has at most ${requestLimit} bytes`,
        ),
    }),
  );

  app.post(keyReleasePaths.hello, async (c) => {
    const request = helloRequestSchema.safeParse(await readJson(c));
    if (!request.success) return refuse(c, 400, "http/malformed", describe(request.error.issues));
    const hello = {
      version: keyReleaseVersion,
      nonce: context.nonces.issue(context.now()).toHex(),
      time: context.now(),
      identityKey: context.identity.publicKey.toHex(),
    } as const;
    metrics.count("hellos");
    return c.json({ ...hello, signature: context.identity.sign(helloTranscript(hello)).toHex() });
  });

  app.post(keyReleasePaths.release, async (c) => {
    const request = releaseRequestSchema.safeParse(await readJson(c));
    if (!request.success) return refuse(c, 400, "http/malformed", describe(request.error.issues));
    const started = performance.now();
    const { answer, entry } = await releaseKeys(context, request.data);
    const ms = performance.now() - started;
    metrics.observe(ms / 1000);
    metrics.count(answer.outcome, answer.outcome === "denied" ? `code="${answer.code}"` : "");
    write(answer.outcome, {
      ...(answer.outcome === "denied" && { code: answer.code, message: answer.message }),
      ...(answer.outcome === "released" && { reference: entry.reason, keyVersion: answer.keyVersion }),
      app: entry.app.toHex(),
      instance: entry.instance.toHex(),
      address: address(c),
      ms: Number(ms.toFixed(2)),
    });
    return c.json(answer, answer.outcome === "denied" ? 403 : 200);
  });
  return app;
}

/** The body as JSON; undefined, which no schema takes, where it is none. */
async function readJson(c: Context<Environment>): Promise<unknown> {
  const body = await c.req.text();
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

function describe(issues: readonly { path: readonly PropertyKey[]; message: string }[]): string {
  const [issue] = issues;
  return `the request: ${issue?.path.join(".") || "the whole body"}: ${issue?.message}`.slice(0, 300);
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

function stop(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const deadline = setTimeout(() => server.closeAllConnections(), defaults.shutdownMs);
    // A connection becomes idle when its answer is out; the client would keep it open for another request.
    const sweep = setInterval(() => server.closeIdleConnections(), 20);
    server.close(() => {
      clearTimeout(deadline);
      clearInterval(sweep);
      resolve();
    });
  });
}
