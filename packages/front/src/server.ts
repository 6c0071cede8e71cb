// SPDX-License-Identifier: Apache-2.0
/**
 * The front: where a connection from outside ends inside the guest.
 *
 * Invariants: TLS 1.3 with the attested key, and no session is ever resumed; keys and evidence are answered here, everything
 * else is the application's; every wait has a limit, every buffer a bound, and a connection that does nothing is closed
 * before one that does.
 */
import type { IncomingMessage, Server } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { SecureContext, TLSSocket } from "node:tls";
import { ehbpHeaders, ehbpKeysPath } from "@caisson/protocol/ehbp";
import type { KeyPair } from "@caisson/protocol/hpke-context";
import { concat } from "@caisson/vocabulary/bytes";
import { hpkeConfigOf } from "@caisson/vocabulary/channel";
import { channelKeysPath, channelTunnelPath, evidencePath, livePath } from "@caisson/vocabulary/paths";
import {
  bodyOf,
  FrontRefusal,
  openToPages,
  type Request,
  type Response,
  refuse,
  reply,
  target,
} from "./exchange.ts";
import { towardsApplication, towardsClient } from "./headers.ts";
import { Crowded, Quotes } from "./nonce-tree.ts";
import { type SealedLimits, SealedRequests, sealedLimits } from "./sealed.ts";
import { NoAnswer, type Target, Upstream } from "./upstream.ts";

const https = process.getBuiltinModule("node:https");
const http2 = process.getBuiltinModule("node:http2");
const { constants } = process.getBuiltinModule("node:crypto");

export interface FrontOptions {
  /** PEM: the attested key, and a certificate over it. */
  key: string;
  certificate: string;
  /** The attested HPKE key. */
  hpke: KeyPair;
  application: Target;
  /** "encrypted": the application gets sealed requests only. */
  require: "tls" | "encrypted";
  /** Evidence over a root of nonces, as JSON. */
  attest: (nonceRoot: Uint8Array) => Promise<string>;
  limits?: Partial<FrontLimits>;
}

export interface FrontLimits {
  connections: number;
  handshakeMs: number;
  /** For a request's head, and for a connection between two of them. */
  headMs: number;
  idleMs: number;
  /** For any other silence on a connection. */
  silenceMs: number;
  sealed: SealedLimits;
}

const defaults: FrontLimits = {
  connections: 4096,
  handshakeMs: 10_000,
  headMs: 15_000,
  idleMs: 30_000,
  silenceMs: 600_000,
  sealed: sealedLimits,
};

const headSize = 32 << 10;
const headFields = 128;
/** RFC 7301 names: HTTP, and what an ACME server asks for (RFC 8737). */
const acmeProtocol = "acme-tls/1";

export interface Front {
  server: Server;
  /** Replaces the certificate of new connections; the key stays. */
  setCertificate(pem: string): void;
  /** What ACME's validation of a name is shown, as long as it is set. */
  setChallenge(context: SecureContext | undefined, name?: string): void;
  close(): void;
}

/** A front that does not listen yet. */
export function createFront(options: FrontOptions): Front {
  const limits = { ...defaults, ...options.limits };
  const upstream = new Upstream(options.application);
  const sealed = new SealedRequests(options.hpke, upstream, limits.sealed);
  const quotes = new Quotes(options.attest);
  const hpkeConfig = hpkeConfigOf(options.hpke.publicKey);
  let challenge: { context: SecureContext; name: string } | undefined;

  /** What the front answers itself, by path. */
  const own: Record<string, (request: Request, response: Response) => Promise<void> | void> = {
    [evidencePath]: (request, response) => evidence(request, response),
    // RFC 9458 puts a length before each configuration, Tinfoil's clients want none.
    [channelKeysPath]: (_, response) =>
      reply(
        response,
        200,
        "application/ohttp-keys",
        concat(Uint8Array.of(0, hpkeConfig.length), hpkeConfig),
        openToPages,
      ),
    [ehbpKeysPath]: (_, response) => reply(response, 200, "application/ohttp-keys", hpkeConfig, openToPages),
    [channelTunnelPath]: (request, response) => sealed.whole(request, response),
  };

  async function evidence(request: Request, response: Response): Promise<void> {
    const nonce = /^[^?]*\?nonce=([0-9a-f]{64})$/.exec(request.url ?? "")?.[1];
    if (nonce === undefined)
      throw new FrontRefusal(400, "evidence is over ?nonce=, 64 hexadecimal digits in lower case");
    try {
      const { evidence: document, index, count, path } = await quotes.ask(Uint8Array.fromHex(nonce));
      const place = { index, count, path: path.map((hash) => hash.toHex()) };
      const text = `{"version":"caisson/channel-evidence/v1","evidence":${document},"nonce":${JSON.stringify(place)}}\n`;
      reply(response, 200, "application/json", text, openToPages);
    } catch (error) {
      if (error instanceof Crowded) throw new FrontRefusal(503, "too many ask for evidence at once");
      throw new FrontRefusal(502, `no evidence: ${(error as Error).message}`);
    }
  }

  async function answer(request: Request, response: Response): Promise<void> {
    const where = target(request);
    const path = where.path.split("?", 1)[0]!;
    const ours = Object.hasOwn(own, path) ? own[path] : undefined;
    if (ours !== undefined) {
      if (request.method === "OPTIONS") return preflight(response);
      if (request.method !== (path === channelTunnelPath ? "POST" : "GET"))
        throw new FrontRefusal(405, "not by this method");
      return ours(request, response);
    }
    if (path.startsWith("/.well-known/caisson/") && path !== livePath)
      throw new FrontRefusal(404, "there is no such thing");
    if (request.headers[ehbpHeaders.key] !== undefined) return sealed.body(request, response);
    if (options.require === "encrypted")
      throw new FrontRefusal(403, "this application takes sealed requests only");
    return forward(where, request, response);
  }

  async function forward(
    where: ReturnType<typeof target>,
    request: Request,
    response: Response,
  ): Promise<void> {
    const headers = towardsApplication(request.rawHeaders, {
      way: "tls",
      address: request.socket.remoteAddress ?? "",
      host: where.host,
      skip: contentLength,
    });
    const size = bodyOf(request);
    const body = size === undefined ? {} : { body: { ...size, content: request } };
    const found = await upstream.ask({ method: where.method, path: where.path, headers, ...body }, response);
    response.writeHead(found.statusCode!, towardsClient(found.rawHeaders));
    // A short answer came with its head: it goes in one piece.
    if (found.complete) return void response.end(found.read() as Buffer | null);
    found.pipe(response);
    found.once("error", () => response.destroy());
    found.once("close", () => {
      if (!found.complete) response.destroy();
    });
    // A stream may begin long before its first event.
    setImmediate(() => {
      if (!response.writableEnded) response.flushHeaders();
    });
  }

  function handle(request: Request, response: Response): void {
    response.on("error", () => response.destroy());
    request.on("error", () => response.destroy());
    answer(request, response).catch((error: unknown) => {
      if (response.headersSent || response.destroyed) return void response.destroy();
      if (error instanceof FrontRefusal) refuse(response, error);
      else if (error instanceof NoAnswer)
        refuse(response, new FrontRefusal(502, "the application gave no answer"));
      else refuse(response, new FrontRefusal(500, "the front failed"));
      // What is left of a body would be read as the next request.
      if (!request.complete && request.httpVersionMajor === 1)
        response.once("finish", () => request.socket.destroy());
    });
  }

  const server = https.createServer(
    {
      key: options.key,
      cert: options.certificate,
      minVersion: "TLSv1.3",
      // With it, and no store of sessions, a ticket is a number that nobody knows.
      secureOptions: constants.SSL_OP_NO_TICKET,
      handshakeTimeout: limits.handshakeMs,
      ALPNCallback: ({ servername, protocols }) => {
        if (protocols.includes(acmeProtocol))
          return challenge?.name === servername ? acmeProtocol : undefined;
        return protocols.find((name) => name === "h2" || name === "http/1.1");
      },
      SNICallback: (name, done) => done(null, challengeFor(name)),
      requestTimeout: 0,
      headersTimeout: limits.headMs,
      keepAliveTimeout: limits.idleMs,
      connectionsCheckingInterval: Math.min(5_000, limits.headMs),
      maxHeaderSize: headSize,
      joinDuplicateHeaders: false,
      shouldUpgradeCallback: ({ headers }) => headers.upgrade?.toLowerCase() === "websocket",
    },
    handle,
  );
  server.maxHeadersCount = headFields;
  server.timeout = limits.silenceMs;
  server.on("upgrade", (request, socket, head) => upgrade(request, socket, head));
  server.on("clientError", (_, socket) => {
    if (socket.writable)
      socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    setTimeout(() => socket.destroy(), 1_000).unref();
  });
  const second = http2.createServer(
    {
      maxSessionMemory: 2,
      maxHeaderListPairs: headFields,
      maxSendHeaderBlockLength: headSize,
      maxSessionInvalidFrames: 16,
      maxSessionRejectedStreams: 16,
      maxOutstandingPings: 4,
      maxSettings: 16,
      settings: { maxConcurrentStreams: 64, maxHeaderListSize: headSize, enablePush: false },
      streamResetBurst: 100,
      streamResetRate: 20,
    },
    (request: Http2ServerRequest, response: Http2ServerResponse) =>
      handle(request as unknown as Request, response as unknown as Response),
  );
  second.on("session", (session) => {
    session.setTimeout(limits.silenceMs, () => session.destroy());
    session.on("error", () => session.destroy());
  });
  byProtocol(server, second);
  const open = boundConnections(server, limits);

  /** The context for a name that ACME validates; its connection is closed as soon as it stands. */
  const challengeFor = (name: string): SecureContext | undefined =>
    challenge?.name === name ? challenge.context : undefined;

  function upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const fail = (status: number): void => {
      socket.end(`HTTP/1.1 ${status} Refused\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
    };
    socket.on("error", () => socket.destroy());
    let where: ReturnType<typeof target>;
    try {
      where = target(request);
    } catch {
      return fail(400);
    }
    if (options.require === "encrypted") return fail(403);
    const headers = towardsApplication(request.rawHeaders, {
      way: "tls",
      address: request.socket.remoteAddress ?? "",
      host: where.host,
      skip: contentLength,
    });
    const asked = upstream.start({
      method: "GET",
      path: where.path,
      headers: [...headers, "Connection", "Upgrade", "Upgrade", "websocket"],
    });
    asked.once("error", () => fail(502));
    asked.once("response", (found) => {
      found.resume();
      fail(found.statusCode!);
    });
    asked.once("upgrade", (found, behind, first) => {
      const raw = towardsClient(found.rawHeaders);
      const lines = raw.flatMap((name, i) => (i % 2 === 0 ? [`${name}: ${raw[i + 1]}\r\n`] : []));
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${lines.join("")}\r\n`,
      );
      socket.write(first);
      behind.write(head);
      join(socket, behind);
      join(behind, socket);
    });
  }

  return {
    server,
    setCertificate(pem) {
      server.setSecureContext({
        key: options.key,
        cert: pem,
        minVersion: "TLSv1.3",
        secureOptions: constants.SSL_OP_NO_TICKET,
      });
    },
    setChallenge(context, name = "") {
      challenge = context === undefined ? undefined : { context, name };
    },
    close() {
      server.close();
      for (const socket of open.keys()) socket.destroy();
      upstream.close();
    },
  };
}

const contentLength = new Set(["content-length"]);

/** One direction; either end's end is the other's. */
function join(from: Duplex, to: Duplex): void {
  from.pipe(to);
  from.once("error", () => to.destroy());
  from.once("close", () => to.destroy());
}

function preflight(response: Response): void {
  reply(response, 204, "text/plain", "", {
    ...openToPages,
    "access-control-allow-methods": "GET, POST",
    "access-control-allow-headers": "content-type, incremental",
    "access-control-max-age": "600",
  });
}

/** Hands connections to the version of HTTP that was agreed on; one for ACME has served when its handshake is over. */
function byProtocol(server: Server, second: { emit(event: "connection", socket: unknown): boolean }): void {
  const [first] = server.listeners("secureConnection") as ((socket: TLSSocket) => void)[];
  server.removeAllListeners("secureConnection");
  server.on("secureConnection", (socket: TLSSocket) => {
    if (socket.alpnProtocol === acmeProtocol) socket.end();
    else if (socket.alpnProtocol === "h2") second.emit("connection", socket);
    else first!.call(server, socket);
  });
}

const movementMs = 2_000;

/** At the limit the connection that is silent for longest gives way, so that many idle ones keep nobody out. */
function boundConnections(server: Server, { connections }: FrontLimits): ReadonlyMap<Socket, number> {
  /** Bytes that moved, by connection; the one that moved last is the last. */
  const open = new Map<Socket, number>();
  const moved = ({ bytesRead, bytesWritten }: Socket) => bytesRead + bytesWritten;
  server.on("connection", (socket: Socket) => {
    socket.setNoDelay(true);
    socket.on("error", () => socket.destroy());
    const [silent] = open.keys();
    if (open.size >= connections && silent !== undefined) {
      open.delete(silent);
      silent.destroy();
    }
    open.set(socket, 0);
    socket.once("close", () => open.delete(socket));
  });
  const sweep = setInterval(() => {
    for (const [socket, before] of Array.from(open)) {
      const now = moved(socket);
      if (now === before) continue;
      open.delete(socket);
      open.set(socket, now);
    }
  }, movementMs).unref();
  server.once("close", () => clearInterval(sweep));
  return open;
}
