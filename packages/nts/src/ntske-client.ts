// SPDX-License-Identifier: Apache-2.0
/**
 * NTS key establishment as a client (RFC 8915, section 4): one TLS 1.3 connection, one question, one answer.
 *
 * Three round trips: TCP, TLS, and the question that travels with the client's Finished. The server's certificate
 * is judged in full but for its dates before a byte of the answer is used (see certificates.ts).
 */
import type { X509Certificate } from "node:crypto";
import { connect, type TLSSocket } from "node:tls";
import { type Chain, deferrable, parseRoots, verifyChain } from "./certificates.ts";
import type { TimeSource } from "./configuration.ts";
import type { Environment } from "./environment.ts";
import { NtsError } from "./errors.ts";
import {
  alpn,
  decodeAnswer,
  encodeRequest,
  exporterContext,
  exporterLabel,
  type KeyEstablishmentAnswer,
  maxMessageBytes,
  messageLength,
} from "./ntske.ts";
import { keyBytes } from "./siv-types.ts";

/** What key establishment leaves behind: enough for about eight NTP exchanges, and more as cookies are renewed. */
export interface Association {
  clientToServer: Uint8Array;
  serverToClient: Uint8Array;
  /** Used once each, oldest first; replies bring new ones. */
  cookies: Uint8Array[];
  /** NTP server: an address, or a name if the server sent us to one. */
  host: string;
  /** IP version of the connection. */
  family: 4 | 6;
  port: number;
  chain: Chain;
  /** How long the server took to answer our question, in milliseconds: a first guess for how long NTP may take. */
  rttGuess: number;
}

/**
 * Establishes keys with `source`. `timeoutMs` bounds the whole of it; aborting `signal` closes the connection.
 * Throws NtsError `ke/…` or `certificate/…`.
 */
export async function establishKeys(
  source: TimeSource,
  environment: Environment,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Association> {
  const roots = parseRoots(source.ca);
  const socket = open(source, environment);

  try {
    return await new Promise<Association>((resolve, reject) => {
      const timer = setTimeout(() => reject(timedOut(source, timeoutMs)), timeoutMs);
      const abort = () => reject(new NtsError("ke/timeout", `${source.name}: no longer needed`));
      signal.addEventListener("abort", abort, { once: true });
      socket.once("close", () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", abort);
        reject(
          new NtsError("ke/malformed", `${source.name} closed the connection before its answer was complete`),
        );
      });
      socket.on("error", (error: NodeJS.ErrnoException) => reject(connectionError(source, error)));

      let chain: Chain | undefined;
      let asked = 0;
      let received = Buffer.alloc(0);
      socket.once("secureConnect", () => {
        try {
          chain = checkServer(socket, roots, source);
          socket.write(encodeRequest());
          asked = environment.monotonic();
        } catch (error) {
          reject(error as Error);
        }
      });
      socket.on("data", (bytes: Buffer) => {
        try {
          if (chain === undefined || received.length > maxMessageBytes) return;
          received = Buffer.concat([received, bytes]);
          const length = messageLength(received);
          if (length === undefined) return;
          const answer = decodeAnswer(received.subarray(0, length));
          resolve(associationOf(socket, answer, source, chain, environment.monotonic() - asked));
        } catch (error) {
          reject(error as Error);
        }
      });
      if (signal.aborted) abort();
    });
  } finally {
    socket.destroy();
  }
}

/** A connection on its way. Whether it is to the right server is not said by OpenSSL alone: see checkServer. */
function open(source: TimeSource, environment: Environment): TLSSocket {
  const socket = connect({
    host: source.address ?? source.name,
    port: source.kePort,
    servername: source.name,
    lookup: environment.lookup,
    ca: source.ca,
    allowPartialTrustChain: true, // an intermediate authority may be all that is trusted
    minVersion: "TLSv1.3",
    maxVersion: "TLSv1.3",
    ALPNProtocols: [alpn],
    // Judged by checkServer, which may put off nothing but the dates.
    rejectUnauthorized: false,
    // Small enough for one segment; OpenSSL's default adds a post-quantum share of 1.2 kB.
    ecdhCurve: "X25519:P-256",
  });
  return socket.setNoDelay(true);
}

/** The keys of this connection, and what the server said beside them. */
function associationOf(
  socket: TLSSocket,
  { cookies, server, port = 123 }: KeyEstablishmentAnswer,
  source: TimeSource,
  chain: Chain,
  rttGuess: number,
): Association {
  const exported = (direction: "client-to-server" | "server-to-client") =>
    socket.exportKeyingMaterial(keyBytes, exporterLabel, Buffer.from(exporterContext(direction)));
  return {
    clientToServer: exported("client-to-server"),
    serverToClient: exported("server-to-client"),
    cookies,
    host: server ?? socket.remoteAddress ?? source.name,
    family: socket.remoteFamily === "IPv6" ? 6 : 4,
    port,
    chain,
    rttGuess,
  };
}

/** The server speaks NTS-KE over TLS 1.3, and its certificate is good but for the dates. */
function checkServer(socket: TLSSocket, roots: X509Certificate[], source: TimeSource): Chain {
  if (socket.getProtocol() !== "TLSv1.3") {
    throw new NtsError("ke/tls", `${source.name} speaks ${socket.getProtocol()}`);
  }
  if (socket.alpnProtocol !== alpn) {
    throw new NtsError("ke/alpn", `${source.name} does not speak ${alpn}`);
  }
  const chain = verifyChain(presentedChain(socket), roots, source.name);
  if (!socket.authorized && !deferrable.has(String(socket.authorizationError))) {
    throw new NtsError("certificate/untrusted", `${source.name}: OpenSSL refuses the certificate`, {
      facts: [["verdict", String(socket.authorizationError)]],
    });
  }
  return chain;
}

/** What the server showed, leaf first; Node links each certificate to its issuer among the others. */
function presentedChain(socket: TLSSocket): X509Certificate[] {
  const chain: X509Certificate[] = [];
  let next = socket.getPeerX509Certificate();
  while (next !== undefined && chain.length < 10 && !chain.some((earlier) => earlier.raw.equals(next!.raw))) {
    chain.push(next);
    next = next.issuerCertificate;
  }
  return chain;
}

function timedOut(source: TimeSource, timeoutMs: number): NtsError {
  return new NtsError("ke/timeout", `${source.name} did not answer within ${timeoutMs} ms`);
}

function connectionError(source: TimeSource, error: NodeJS.ErrnoException): NtsError {
  const code = error.code ?? "";
  const facts = [["cause", code || error.message]] as const;
  if (["ENOTFOUND", "EAI_AGAIN", "EAI_NODATA", "ENODATA"].includes(code)) {
    return new NtsError("ke/lookup", `${source.name} has no address`, { facts });
  }
  if (code.includes("NO_APPLICATION_PROTOCOL")) {
    return new NtsError("ke/alpn", `${source.name} does not speak ${alpn}`, { facts });
  }
  if (code.startsWith("ERR_SSL") || code === "EPROTO") {
    return new NtsError("ke/tls", `the TLS 1.3 handshake with ${source.name} failed`, { facts });
  }
  return new NtsError("ke/connect", `cannot connect to ${source.name}, port ${source.kePort}`, { facts });
}
