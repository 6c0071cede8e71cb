// SPDX-License-Identifier: Apache-2.0
/**
 * The front: where a connection from outside ends inside the guest.
 *
 * Invariants: TLS 1.3 with the attested key, and no session is ever resumed; keys and evidence are answered here, everything
 * else is the application's; every wait has a limit, every buffer a bound, and a connection that does nothing is closed
 * before one that does.
 */
import type { Server } from "node:http";
import type { Http2Server, Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { Server as HttpsServer } from "node:https";
import type { Socket } from "node:net";
import type { SecureContext, TLSSocket } from "node:tls";
import { type AnswerOptions, Answers } from "./answers.ts";
import { headFields, type Request, type Response } from "./exchange.ts";
import { type SealedLimits, sealedLimits } from "./sealed.ts";
import { Upgrades } from "./upgrades.ts";
import { type Target, Upstream } from "./upstream.ts";

const https = process.getBuiltinModule("node:https");
const http2 = process.getBuiltinModule("node:http2");
const { constants } = process.getBuiltinModule("node:crypto");

export interface FrontOptions extends AnswerOptions {
  /** PEM: the attested key, and a certificate over it. */
  key: string;
  certificate: string;
  application: Target;
  limits?: Partial<FrontLimits>;
}

export interface FrontLimits {
  connections: number;
  /** At the application at once; WebSockets are connections. */
  requests: number;
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
  requests: 2048,
  handshakeMs: 10_000,
  headMs: 15_000,
  idleMs: 30_000,
  silenceMs: 600_000,
  sealed: sealedLimits,
};

const headSize = 32 << 10;
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
  const upstream = new Upstream(options.application, limits.requests);
  const answers = new Answers({ ...options, sealed: limits.sealed }, upstream);
  const upgrades = new Upgrades(options.require, upstream);
  const challenge: Challenge = {};
  const server = firstVersion(options, limits, challenge, answers);
  server.on("upgrade", (request, socket, head) => upgrades.pass(request, socket, head));
  byProtocol(server, secondVersion(limits, answers));
  const open = boundConnections(server, limits);

  return {
    server,
    setCertificate: (pem) => server.setSecureContext({ ...tlsOptions, key: options.key, cert: pem }),
    setChallenge(context, name = "") {
      challenge.now = context === undefined ? undefined : { context, name };
    },
    close() {
      server.close();
      for (const socket of open.keys()) socket.destroy();
      upstream.close();
    },
  };
}

const tlsOptions = {
  minVersion: "TLSv1.3",
  // With it, and no store of sessions, a ticket is a number that nobody knows.
  secureOptions: constants.SSL_OP_NO_TICKET,
} as const;

/** What ACME's validation of a name is shown now; the connection is closed as soon as it stands. */
interface Challenge {
  now?: { context: SecureContext; name: string } | undefined;
}

/** TLS, whatever is agreed on inside, and HTTP/1.1. */
function firstVersion(
  { key, certificate }: FrontOptions,
  limits: FrontLimits,
  challenge: Challenge,
  answers: Answers,
): HttpsServer {
  const server = https.createServer(
    {
      ...tlsOptions,
      key,
      cert: certificate,
      handshakeTimeout: limits.handshakeMs,
      ALPNCallback: ({ servername, protocols }) => {
        if (protocols.includes(acmeProtocol))
          return challenge.now?.name === servername ? acmeProtocol : undefined;
        return protocols.find((name) => name === "h2" || name === "http/1.1");
      },
      SNICallback: (name, done) =>
        done(null, challenge.now?.name === name ? challenge.now.context : undefined),
      requestTimeout: 0,
      headersTimeout: limits.headMs,
      keepAliveTimeout: limits.idleMs,
      connectionsCheckingInterval: Math.min(5_000, limits.headMs),
      maxHeaderSize: headSize,
      joinDuplicateHeaders: false,
      shouldUpgradeCallback: ({ headers }) => headers.upgrade?.toLowerCase() === "websocket",
    },
    (request, response) => answers.give(request, response),
  );
  // Node would drop what is over, silently: it is counted, and refused, with the request.
  server.maxHeadersCount = 0;
  server.timeout = limits.silenceMs;
  server.on("clientError", (_, socket) => {
    if (socket.writable)
      socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    setTimeout(() => socket.destroy(), 1_000).unref();
  });
  return server;
}

/** HTTP/2, over connections that were agreed on before. */
function secondVersion({ silenceMs }: FrontLimits, answers: Answers): Http2Server {
  const server = http2.createServer(
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
    // A turn later: of requests and their cancellations that come in one piece, thousands would reach the application.
    (request: Http2ServerRequest, response: Http2ServerResponse) =>
      setImmediate(() => {
        if (!response.stream.closed)
          answers.give(request as unknown as Request, response as unknown as Response);
      }),
  );
  server.on("session", (session) => {
    session.setTimeout(silenceMs, () => session.destroy());
    session.on("error", () => session.destroy());
  });
  return server;
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
