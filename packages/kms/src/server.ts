// SPDX-License-Identifier: Apache-2.0
/**
 * The KMS over HTTP: limits first, then schemas, then one decision, then one log line.
 *
 * Invariants: a request costs bounded memory and time before it is known to be worth anything (connections, header
 * and body sizes, rates, timeouts); whatever happens inside becomes a refusal with a code, never a stack trace;
 * log lines are built from ids, codes and numbers, so there is no place where a secret could enter one, and of what
 * anybody can cause there are not more than somebody can read.
 */

import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { deriveKmsKey } from "@caisson/protocol/derivation";
import { IDENTITY_SIZE } from "@caisson/protocol/identity";
import {
  helloRequestSchema,
  helloTranscript,
  keyReleasePaths,
  keyReleaseVersion,
  type Refusal,
  releaseRequestSchema,
  requestLimit,
  sealingKeyPath,
} from "@caisson/protocol/key-release";
import { anchorPath, anchorRequestSchema } from "@caisson/protocol/volumes";
import { messageOf } from "@caisson/vocabulary/failure";
import { getRequestListener, type HttpBindings } from "@hono/node-server";
import { type Context, Hono } from "hono";
import * as z from "zod";
import { Applications } from "./applications.ts";
import { CollateralSource, type CollateralSourceOptions } from "./collateral-source.ts";
import { type Configuration, type ConfigurationSource, loadConfiguration } from "./configuration.ts";
import { Connections } from "./connections.ts";
import { KmsError } from "./errors.ts";
import { checkpointRow, FollowedLog, type LogToFollow } from "./followed-log.ts";
import { Metrics, metricsType } from "./metrics.ts";
import { Nonces } from "./nonces.ts";
import { Administration, isRequestError, type Operators } from "./operators.ts";
import { loadManifests } from "./policies.ts";
import { Bucket, type Rate, RateLimiter } from "./rate-limit.ts";
import { type ReleaseContext, releaseKeys } from "./release.ts";
import { sealRoot } from "./root-handover.ts";
import { openRootSecret } from "./root-secret.ts";
import { publishSealingKey } from "./secrets.ts";
import { retriable } from "./store/backend.ts";
import { logHead } from "./store/entries.ts";
import { openLogStore } from "./store/open.ts";
import { type Store, storeKeys } from "./store/store.ts";
import { VolumeBook } from "./volumes/book.ts";

export interface KmsOptions {
  /** Directory of root secret and release log; the secret is there (`createRootSecret`), the log is made. */
  data: string;
  /** PostgreSQL servers of the log and rows, instead of a file in `data`: the one that takes writes is used. */
  databases?: readonly string[];
  /** Directory of policy files and manifests (policies.ts). Without it, policies are what operators signed. */
  policies?: string;
  /** The application (id, hexadecimal) that this KMS's replicas are: they get its root secret (root-handover.ts). */
  ownApp?: string;
  /** The first operators, named where the store has none yet (operators.ts). */
  operators?: Operators;
  /** Port 0 takes a free one. */
  host: string;
  port: number;
  /** Allow policies that accept evidence of the emulated platform. Default: such a policy is an error. */
  development?: boolean;
  /** Directory of collateral documents, which go before what guests bring (collateral-cache.ts). */
  collateral?: string;
  /** Whom to ask for collateral instead, and what Intel's set is called; it is kept in `data`. */
  collateralSource?: Pick<CollateralSourceOptions, "from" | "update" | "limits">;
  /** The log of releases that is followed. Default: none; then what was proved here is all that is remembered. */
  follow?: LogToFollow;
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
  /**
   * Reads policies and collateral again and puts both in the place of the old ones, or neither: false where something
   * is wrong with them, which the log and the metrics then say.
   */
  reload(): Promise<boolean>;
  /** Lets requests that are under way finish (2 s at most), then closes the log. */
  close(): Promise<void>;
}

/** Limits of one server. A guest needs two requests for a boot. */
const defaults = {
  perAddress: { perSecond: 5, burst: 40 },
  common: { perSecond: 2000, burst: 4000 },
  /** Anchors, for each address: a guest whose application makes many promises sends many. */
  anchors: { perSecond: 200, burst: 400 },
  /** Entries for denials, of about 250 bytes: 22 MB a day at most. */
  denials: { perSecond: 1, burst: 1000 },
  /** Lines about requests that anybody can send. */
  lines: { perSecond: 10, burst: 100 },
  connections: 512,
  /** Of all requests in memory. A guest's is about 150 kB. */
  bodies: 64 * 1024 * 1024,
  headerBytes: 8 * 1024,
  silentMs: 2_000,
  requestMs: 10_000,
  idleMs: 5_000,
  /** How often a replica looks for what operators changed at another. */
  followMs: 5_000,
  shutdownMs: 2_000,
};

/** Starts a KMS and resolves once it listens. Throws KmsError. */
export async function startKms(options: KmsOptions): Promise<Kms> {
  const { development = false } = options;
  const secret = openRootSecret(options.data, { development });
  const { identity } = storeKeys(secret);
  const now = options.now ?? Date.now;
  const say: WriteLine = (event, fields = {}) =>
    options.log?.(logLine({ time: new Date(now()).toISOString(), event, ...fields }));
  const metrics = new Metrics();
  const fetched =
    options.collateralSource &&
    new CollateralSource({
      ...options.collateralSource,
      directory: join(options.data, "collateral"),
      now,
      say,
      count: (result) => metrics.count("collateral_fetches", `result="${result}"`),
    });
  const source: ConfigurationSource = {
    ...(options.policies !== undefined && { policies: options.policies }),
    ...(options.collateral !== undefined && { collateral: options.collateral }),
    ...(fetched && { fetched }),
    identityKey: identity.publicKey.toHex(),
    development,
  };
  const store = await openLogStore(options.data, options.databases ?? [], secret);
  const manifests = loadManifests(join(options.policies ?? options.data, "manifests"));
  const reading = { manifests, identityKey: source.identityKey, development };
  const administration = new Administration(store, reading, now);
  if (options.operators !== undefined) await administration.begin(options.operators);
  await administration.refresh();
  const first = await loadConfiguration(source, new Date(now()), administration.inForce);
  if (first.policies.size === 0 && (await administration.operators()) === undefined) {
    await store.close();
    throw new KmsError("policy/none", "this KMS has neither policies nor operators who could sign some");
  }
  const followed =
    options.follow &&
    new FollowedLog(options.follow, identity.publicKey.toHex(), checkpointRow(store, now), now, say);
  await followed?.update();
  followed?.start();
  const volumes = new VolumeBook(store, secret, identity, now);
  const service: Service = {
    administration,
    reload: () => Promise.resolve(false),
    store,
    context: {
      secret,
      identity,
      store,
      denials: new Bucket(defaults.denials, now()),
      nonces: new Nonces(deriveKmsKey(secret, "nonces")),
      volumes,
      applications: new Applications(store, followed),
      now,
    },
    configuration: first,
    metrics,
    write: say,
  };
  const { write } = service;
  const configure = (configuration: Configuration) => {
    service.configuration = configuration;
    metrics.configured(now() / 1000, configuration);
    for (const [id, { digest, keyVersion, warnings }] of configuration.policies) {
      write("policy", { app: id, keyVersion, digest: digest.toHex() });
      for (const { code, message } of warnings) write("warning", { app: id, code, message });
    }
  };
  const server = createServer(
    {
      maxHeaderSize: defaults.headerBytes,
      requestTimeout: defaults.requestMs,
      headersTimeout: defaults.requestMs,
      keepAliveTimeout: defaults.idleMs,
      connectionsCheckingInterval: 1000,
    },
    (incoming, outgoing) => {
      const { socket } = incoming;
      // One request at a time on a connection: answers to more would wait in memory until their client reads them.
      if (!connections.begin(socket)) return void socket.destroy();
      outgoing.once("close", () => connections.done(socket));
      void serve(incoming, outgoing);
    },
  );
  const connections = new Connections(server, {
    total: defaults.connections,
    perAddress: (options.perAddress ?? defaults.perAddress).burst,
    silentMs: defaults.silentMs,
    bodies: defaults.bodies,
  });
  const serve = getRequestListener(routes(service, options, connections).fetch);
  try {
    await listen(server, options.host, options.port);
  } catch (error) {
    await store.close();
    throw new KmsError(
      "kms/listen",
      `cannot listen on ${options.host}:${options.port}: ${messageOf(error)}`,
      { fix: "another port, or end what listens there" },
    );
  }
  const { port } = server.address() as AddressInfo;
  const host = options.host.includes(":") ? `[${options.host}]` : options.host;
  const url = `http://${host}:${port}`;
  configure(first);
  write("started", { url, identityKey: identity.publicKey.toHex(), logEntries: store.head.sequence });
  const reload = async () => {
    await followed?.update();
    try {
      await administration.refresh();
      configure(await loadConfiguration(source, new Date(now()), administration.inForce));
      void fetched?.renew();
      write("reloaded");
      return true;
    } catch (error) {
      metrics.notConfigured();
      const code = error instanceof KmsError ? error.code : "internal";
      write("reload-failed", { code, message: messageOf(error) });
      return false;
    }
  };
  let closed: Promise<void> | undefined;
  const close = async () => {
    followed?.stop();
    await fetched?.stop();
    clearInterval(following);
    await stop(server);
    write("stopped", { logEntries: store.head.sequence });
    await store.close();
  };
  // One after the other, so that the newest is what counts in the end.
  let reloading: Promise<unknown> = Promise.resolve();
  const reloadNext = () => {
    const next = reloading.then(reload);
    reloading = next;
    return next;
  };
  service.reload = reloadNext;
  // What operators signed at another replica.
  const following = setInterval(() => {
    administration.refresh().then(
      (changed) => changed && reloadNext(),
      (error: unknown) => write("store-failed", { message: messageOf(error) }),
    );
  }, defaults.followMs);
  following.unref();
  return {
    url,
    identityKey: identity.publicKey.toHex(),
    reload: reloadNext,
    close: () => (closed ??= close()),
  };
}

type Environment = { Bindings: HttpBindings };

/** One log line: ids, codes and numbers only. */
type WriteLine = (event: string, fields?: Record<string, string | number>) => void;

/** One running KMS. `configuration` is replaced as a whole; a request takes it once. */
interface Service {
  readonly context: Omit<ReleaseContext, keyof Configuration> & { volumes: VolumeBook };
  readonly store: Store;
  readonly administration: Administration;
  reload: () => Promise<boolean>;
  configuration: Configuration;
  readonly metrics: Metrics;
  readonly write: WriteLine;
}

function routes(service: Service, options: KmsOptions, connections: Connections): Hono<Environment> {
  const { context, metrics, write } = service;
  const app = new Hono<Environment>();
  const limiter = new RateLimiter(
    options.perAddress ?? defaults.perAddress,
    options.common ?? defaults.common,
  );
  const anchors = new RateLimiter(defaults.anchors, defaults.common);

  const lines = new Bucket(defaults.lines, context.now());
  let suppressed = 0;
  /** A line about a request that cost its sender nothing: not more of them than somebody reads. */
  const writeSome: WriteLine = (event, fields) => {
    if (!lines.has(context.now())) {
      suppressed += 1;
      return;
    }
    lines.take();
    if (suppressed > 0) write("suppressed", { lines: suppressed });
    suppressed = 0;
    write(event, fields);
  };

  const address = (c: Context<Environment>) => c.env.incoming.socket.remoteAddress ?? "unknown";

  /** An answer outside of any exchange, which therefore cannot be signed. */
  const refuse = (
    c: Context<Environment>,
    status: 400 | 403 | 404 | 409 | 413 | 429 | 500 | 503,
    code: string,
    message: string,
  ) => {
    metrics.count("refused", `code="${code}"`);
    // Who sends too much does not also fill the log: that is only counted.
    if (status !== 429) writeSome("refused", { code, address: address(c), path: c.req.path.slice(0, 64) });
    return c.json({ error: { code, message } } satisfies Refusal, status);
  };

  app.onError((error, c) => {
    if (retriable(error)) {
      c.header("retry-after", "1");
      return refuse(c, 503, "log/unavailable", `not now: ${error.message}`);
    }
    write("failed", { error: error.message });
    return refuse(c, 500, "http/internal", "the KMS failed on this request");
  });
  app.notFound((c) => refuse(c, 404, "http/not-found", "there is nothing here"));

  // Everything, also what is not there.
  app.use(async (c, next) => {
    const limits = c.req.path === anchorPath ? anchors : limiter;
    if (limits.take(address(c), context.now())) return next();
    c.header("retry-after", "1");
    return refuse(c, 429, "http/rate-limited", "too many requests; try again in a second");
  });
  app.get("/healthz", (c) => c.json({ status: "ok", identityKey: context.identity.publicKey.toHex() }));
  app.get("/metrics", (c) =>
    c.body(metrics.render(service.store.head.sequence), 200, { "content-type": metricsType }),
  );
  app.get("/v1/log/head", async (c) => c.json(logHead(await service.store.refresh())));

  /** What was sent, if it is what it must be; otherwise the refusal. */
  const receive = async <T>(c: Context<Environment>, schema: Schema<T>): Promise<T | Response> => {
    const incoming = c.env.incoming as IncomingMessage;
    const body = await readBody(incoming, (bytes) => connections.hold(incoming.socket, bytes));
    connections.received(incoming.socket);
    if (body === "too long") {
      c.header("connection", "close");
      return refuse(c, 413, "http/too-large", `a request has at most ${requestLimit} bytes`);
    }
    const request = schema.safeParse(parseJson(body));
    return request.success ? request.data : refuse(c, 400, "http/malformed", describe(request.error.issues));
  };

  app.get(`${sealingKeyPath}/:app`, (c) => {
    const id = c.req.param("app");
    const policy = service.configuration.policies.get(id);
    if (policy === undefined || id.length !== 2 * IDENTITY_SIZE) {
      return refuse(c, 404, "app/unknown", "this KMS has no policy for an application with this identity");
    }
    return c.json(
      publishSealingKey(context.secret, context.identity, Uint8Array.fromHex(id), policy.keyVersion),
    );
  });

  app.get("/v1/root", (c) => {
    const own = options.ownApp === undefined ? undefined : service.configuration.policies.get(options.ownApp);
    if (options.ownApp === undefined || own === undefined) {
      return refuse(c, 404, "http/not-found", "this KMS has no application of replicas, or no policy for it");
    }
    return c.json(sealRoot(context.secret, options.ownApp, own.keyVersion));
  });

  /** What operators signed, and what of it is in force. */
  app.get("/v1/operators", async (c) => c.json((await service.administration.operators()) ?? null));
  app.get("/v1/policies", (c) =>
    c.json(
      [...service.configuration.policies].map(([id, { digest, keyVersion }]) => ({
        app: id,
        digest: digest.toHex(),
        keyVersion,
        version: service.administration.inForce.policies.get(id)?.version ?? null,
      })),
    ),
  );
  app.get("/v1/policies/:app", async (c) => {
    const file = await service.administration.policyFile(c.req.param("app"));
    return file === undefined
      ? refuse(c, 404, "http/not-found", "operators signed no policy for this application")
      : c.json(file);
  });
  app.post("/v1/admin", async (c) => {
    const request = await receive(c, anything);
    if (request instanceof Response) return request;
    try {
      const changed = await service.administration.apply(request);
      const { action, version, signers } = changed;
      write("changed", { action, version, signers: signers.join(" ") });
      await service.reload();
      return c.json(changed);
    } catch (error) {
      if (!isRequestError(error)) throw error;
      const status = error.code === "operators/conflict" ? 409 : (statuses[error.code] ?? 400);
      return refuse(c, status, error.code, error.message);
    }
  });

  app.post(keyReleasePaths.hello, async (c) => {
    const request = await receive(c, helloRequestSchema);
    if (request instanceof Response) return request;
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
    const request = await receive(c, releaseRequestSchema);
    if (request instanceof Response) return request;
    const started = performance.now();
    const { configuration } = service;
    const { answer, entry, logged } = await releaseKeys({ ...context, ...configuration }, request);
    const ms = performance.now() - started;
    // Who asks again finds what another replica was told.
    if (answer.outcome === "denied" && answer.code === "policy/changed") void service.reload();
    metrics.observe(ms / 1000);
    metrics.count(answer.outcome, answer.outcome === "denied" ? `code="${answer.code}"` : "");
    if (answer.outcome === "denied" && !logged) metrics.count("unlogged");
    (logged ? write : writeSome)(answer.outcome, {
      ...(answer.outcome === "denied" && { code: answer.code, message: answer.message }),
      ...(answer.outcome === "released" && { reference: entry.reason, keyVersion: answer.keyVersion }),
      ...(answer.outcome === "released" && warned(configuration, answer.app)),
      app: entry.app.toHex(),
      instance: entry.instance.toHex(),
      address: address(c),
      ms: Number(ms.toFixed(2)),
    });
    return c.json(answer, answer.outcome === "denied" ? 403 : 200);
  });

  app.post(anchorPath, async (c) => {
    const request = await receive(c, anchorRequestSchema);
    if (request instanceof Response) return request;
    if (!context.volumes.isAuthentic(request)) {
      return refuse(c, 400, "volume/mac", "this is not a message of the opening that it names");
    }
    const answer = await context.volumes.anchor(request);
    if ("code" in answer) return refuse(c, 409, answer.code, answer.message);
    metrics.count("anchors");
    return c.json(answer);
  });
  return app;
}

/** The envelope's own reader says what is wrong with it. */
const anything: Schema<object> = z.looseObject({});

/** Of requests that operators did not sign, or not in time. */
const statuses: Record<string, 403> = {
  "operators/signatures": 403,
  "operators/expired": 403,
  "operators/other-kms": 403,
};

/** JSON in ASCII: what a client sent cannot move a terminal's cursor, or turn the direction of its text. */
function logLine(document: object): string {
  return JSON.stringify(document).replace(
    /[^ -~]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** The codes of what an application's policy was warned about, where there are some. */
function warned({ policies }: Configuration, app: string): { warnings?: string } {
  const codes = policies.get(app)?.warnings.map(({ code }) => code) ?? [];
  return codes.length === 0 ? {} : { warnings: codes.join(" ") };
}

interface Schema<T> {
  safeParse(value: unknown): { success: true; data: T } | { success: false; error: { issues: Issues } };
}
type Issues = readonly { path: readonly PropertyKey[]; message: string }[];

/**
 * The body, read no further than `requestLimit`; empty where it broke off. `hold` is told what comes into memory. From Node's own stream: the web streams that
 * a Request puts in front of it cost more than reading and parsing.
 */
function readBody(incoming: IncomingMessage, hold: (bytes: number) => void): Promise<Buffer | "too long"> {
  return new Promise((resolve) => {
    if (Number(incoming.headers["content-length"]) > requestLimit) resolve("too long");
    const chunks: Buffer[] = [];
    let size = 0;
    incoming.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size > requestLimit) return resolve("too long");
      chunks.push(chunk);
      hold(chunk.length);
    });
    incoming.once("end", () => resolve(Buffer.concat(chunks)));
    incoming.once("close", () => resolve(Buffer.alloc(0)));
    incoming.once("error", () => resolve(Buffer.alloc(0)));
  });
}

/** undefined, which no schema takes, where it is not JSON. */
function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    return undefined;
  }
}

function describe(issues: Issues): string {
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
