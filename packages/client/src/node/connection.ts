// SPDX-License-Identifier: Apache-2.0
/**
 * TLS connections that end in an attested guest.
 *
 * Invariants: no byte of a request is written before the connection's own key was compared with the guest's; no session is
 * resumed, since a resumed one shows no certificate; a key is good as long as its attestation is, and connections are
 * closed with it.
 */
import { createHash } from "node:crypto";
import type { ClientRequest, IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { isIP } from "node:net";
import { Readable } from "node:stream";
import { connect, type TLSSocket } from "node:tls";
import { VerifyError } from "@caisson/verify";
import { releaseJudge } from "@caisson/verify/releases";
import { firstBytes } from "@caisson/vocabulary/body";
import { equal } from "@caisson/vocabulary/bytes";
import { sessionExporter } from "@caisson/vocabulary/channel";
import { limits } from "@caisson/vocabulary/limits";
import { reasonOf } from "@caisson/vocabulary/system-error";
import {
  type Attestation,
  type AttestationOptions,
  attestationOf,
  type Binding,
  evidenceUrl,
  freshNonce,
  LastAttestation,
  type Way,
} from "../attestation.ts";
import { ChannelError } from "../errors.ts";

const connectMs = 20_000;
/** Quotes come at about one a second, and a thousand clients may wait for the same one. */
const evidenceMs = 90_000;

/** An https address of a guest. Throws ChannelError `channel/address`. */
function guestOrigin(text: string | URL): URL {
  const url = URL.parse(text);
  if (url?.protocol === "https:" && url.username === "" && url.password === "") return new URL(url.origin);
  throw new ChannelError("channel/address", `'${String(text)}' is not an https address of a guest`, {
    fix: "https://HOST:PORT/, without a user",
  });
}

/** A handshake of TLS 1.3 with whoever answers. Throws ChannelError `channel/unreachable`. */
function handshake({ hostname, port, origin }: URL): Promise<TLSSocket> {
  const host = hostname.replace(/^\[|\]$/g, "");
  return new Promise((resolve, reject) => {
    const socket = connect({
      host,
      port: port === "" ? 443 : Number(port),
      ...(isIP(host) === 0 && { servername: host }),
      // Whom we reach is judged by the key below, not by who signed it; Node's own callback would not be asked.
      rejectUnauthorized: false,
      minVersion: "TLSv1.3",
      ALPNProtocols: ["http/1.1"],
    });
    const fail = (error: Error) => {
      socket.destroy();
      reject(
        new ChannelError("channel/unreachable", `no connection to ${origin}: ${error.message}`, {
          cause: error,
        }),
      );
    };
    const timer = setTimeout(() => fail(new Error(`no handshake within ${connectMs / 1000} s`)), connectMs);
    socket.once("error", fail);
    socket.once("close", () => fail(new Error("it was closed")));
    socket.once("secureConnect", () => {
      clearTimeout(timer);
      socket.removeAllListeners("error");
      socket.removeAllListeners("close");
      socket.on("error", () => socket.destroy());
      resolve(socket);
    });
  });
}

/** SHA-256 of the SubjectPublicKeyInfo of the key that this connection ends with. Throws ChannelError. */
export function keyOf(socket: TLSSocket): Uint8Array {
  const certificate = socket.isSessionReused() ? undefined : socket.getPeerX509Certificate();
  if (socket.getProtocol() !== "TLSv1.3" || certificate === undefined) {
    throw new ChannelError(
      "channel/protocol",
      "the connection shows no key: it is not a full handshake of TLS 1.3",
    );
  }
  const spki = certificate.publicKey.export({ type: "spki", format: "der" });
  return new Uint8Array(createHash("sha256").update(spki).digest());
}

/** The evidence document over this very connection, which is left open for what follows. */
function evidenceOver(socket: TLSSocket, origin: URL, nonce: Uint8Array, bind: Binding): Promise<Uint8Array> {
  const sending = httpsRequest(evidenceUrl(origin, nonce, bind), {
    // Without an agent and with this field, the connection is nobody's afterwards, and stays open.
    createConnection: () => socket,
    headers: { host: origin.host, connection: "keep-alive" },
  });
  return answered(sending, origin);
}

function answered(sending: ClientRequest, origin: URL): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => sending.destroy(new Error(`no evidence within ${evidenceMs / 1000} s`)),
      evidenceMs,
    );
    const fail = (error: unknown) => {
      clearTimeout(timer);
      reject(
        error instanceof ChannelError
          ? error
          : new ChannelError("channel/unreachable", `no evidence from ${origin.origin}: ${reasonOf(error)}`, {
              cause: error,
            }),
      );
    };
    sending.once("error", fail);
    sending.once("response", (response: IncomingMessage) => {
      firstBytes(response, limits.document).then(({ bytes, more }) => {
        clearTimeout(timer);
        if (response.statusCode === 200 && !more) return resolve(bytes);
        fail(
          new ChannelError(
            "channel/not-served",
            `${origin.origin} serves no evidence of a channel: it answers ${response.statusCode}`,
            { fix: "an image has a front where its spec says so: docs/channel.md" },
          ),
        );
      }, fail);
    });
    sending.end();
  });
}

/** What a client knows of one connection by itself, and what came over it. */
interface Observed {
  document: Uint8Array;
  nonce: Uint8Array;
  tlsKey: Uint8Array;
  /** Where the evidence was asked to name this session. */
  exporter?: Uint8Array;
}

async function observe(socket: TLSSocket, origin: URL, bind: Binding): Promise<Observed> {
  const [nonce, tlsKey] = [freshNonce(), keyOf(socket)];
  const { size, label } = sessionExporter;
  const exporter = socket.exportKeyingMaterial(size, label, undefined as unknown as Buffer);
  const document = await evidenceOver(socket, origin, nonce, bind);
  return { document, nonce, tlsKey, ...(bind === "session" && { exporter: new Uint8Array(exporter) }) };
}

/** A connection's own key, and the evidence that came over it: for whoever judges, and shows, them himself. */
export async function observeChannel(url: string | URL, bind: Binding = "key"): Promise<Observed> {
  const origin = guestOrigin(url);
  const socket = await handshake(origin);
  try {
    return await observe(socket, origin, bind);
  } finally {
    socket.destroy();
  }
}

export interface GuestOptions extends AttestationOptions {
  /**
   * "session": each connection gets evidence of its own, which names its TLS session. Then somebody who has the guest's TLS
   * key, and no more of it, cannot stand between; each connection waits for a quote, and nothing is sealed instead.
   */
  bind?: Binding;
}

/** What is known of one guest, shared by all connections to it. */
export class Guest {
  readonly origin: URL;
  readonly #options: AttestationOptions;
  readonly #bind: Binding;
  readonly #ways: readonly Way[];
  readonly #last = new LastAttestation();
  readonly #open = new Set<TLSSocket>();

  constructor(origin: string | URL, options: GuestOptions, ways: readonly Way[] = ["tls", "tunnel"]) {
    const { bind = "key", ...judgement } = options;
    this.origin = guestOrigin(origin);
    this.#options = { releases: releaseJudge(), ...judgement };
    this.#bind = bind;
    this.#ways = bind === "session" ? ["tls"] : ways;
  }

  /** The last attestation, as long as it is good. */
  get attestation(): Attestation | undefined {
    return this.#last.good;
  }

  /** A good attestation, the last one or a new one. Throws ChannelError, VerifyError. */
  attest(): Promise<Attestation> {
    return this.#last.goodOr(() => this.#attestAnew());
  }

  /** Gives up what is known: the guest has other keys by now. */
  forget(): void {
    this.#last.forget();
    for (const socket of this.#open) socket.destroy();
  }

  /** A connection whose end is the attested key. Throws ChannelError, VerifyError. */
  async connect(): Promise<TLSSocket> {
    const socket = await handshake(this.origin);
    try {
      const key = keyOf(socket);
      const known = this.attestation;
      const isKnown = this.#bind === "key" && known?.way === "tls" && equal(known.keys.tlsKey, key);
      // Once: over this connection itself. A second refusal is the answer.
      const attestation = isKnown ? known : await this.#over(socket);
      if (attestation.way !== "tls") {
        throw new ChannelError(
          "channel/refused",
          "TLS ends before the guest: only sealed requests reach it",
          {
            report: attestation.report,
            fix: "use the tunnel",
          },
        );
      }
      this.#keep(socket, attestation);
      return socket;
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  /** Ends a connection with what is known of its own end, whatever was learnt of others meanwhile. */
  #keep(socket: TLSSocket, { until }: Attestation): void {
    const timer = setTimeout(() => socket.destroy(), Math.min(until - Date.now(), 2 ** 31 - 1)).unref();
    this.#open.add(socket);
    socket.once("close", () => {
      clearTimeout(timer);
      this.#open.delete(socket);
    });
  }

  async #attestAnew(): Promise<Attestation> {
    const socket = await handshake(this.origin);
    try {
      return await this.#over(socket);
    } finally {
      socket.destroy();
    }
  }

  async #over(socket: TLSSocket): Promise<Attestation> {
    const { document, ...own } = await observe(socket, this.origin, this.#bind);
    return this.#last.keep(await attestationOf(document, own, this.#options, this.#ways));
  }

  /** Carries sealed bytes, by whatever TLS there is: who ends it sees what anybody on the way would. */
  readonly carry = (path: string, type: string, body: Uint8Array, signal: AbortSignal): Promise<Response> => {
    const sending = httpsRequest(new URL(path, this.origin), {
      method: "POST",
      headers: { "content-type": type, "content-length": body.length },
      rejectUnauthorized: false,
      agent: false,
      signal,
    });
    sending.end(body);
    return responseTo(sending, this.origin);
  };
}

/** A generation of text may take minutes to begin; the front waits as long. */
const silenceMs = 600_000;

/**
 * The answer to a request, as one of fetch. Throws ChannelError: `channel/protocol` for one that fetch could not give,
 * which anybody on the way may send; the signal's own reason when aborted.
 */
export function responseTo(sending: ClientRequest, { origin }: URL): Promise<Response> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => {
      const isOurs =
        error instanceof ChannelError || error instanceof VerifyError || error.name === "AbortError";
      if (isOurs) return reject(error);
      reject(
        new ChannelError("channel/unreachable", `no answer from ${origin}: ${error.message}`, {
          cause: error,
        }),
      );
    };
    sending.setTimeout(silenceMs, () => sending.destroy(new Error(`silent for ${silenceMs / 1000} s`)));
    sending.once("error", fail);
    // After an error, or an answer, this says nothing.
    sending.once("close", () => fail(new Error("the connection was closed")));
    sending.once("upgrade", (_, socket) => {
      socket.destroy();
      fail(new ChannelError("channel/protocol", `${origin} answers in another protocol`));
    });
    sending.once("response", (answer) => {
      try {
        resolve(responseOf(answer));
      } catch (cause) {
        answer.destroy();
        fail(
          new ChannelError(
            "channel/protocol",
            `${origin} answers ${answer.statusCode}, which is not an answer of HTTP`,
            {
              cause,
            },
          ),
        );
      }
    });
  });
}

/** An answer of node:http as one of fetch. Throws RangeError, TypeError for a status or field that cannot be one. */
function responseOf(answer: IncomingMessage): Response {
  const headers = new Headers();
  for (let i = 0; i < answer.rawHeaders.length; i += 2)
    headers.append(answer.rawHeaders[i]!, answer.rawHeaders[i + 1]!);
  const status = answer.statusCode!;
  const empty = status === 204 || status === 205 || status === 304;
  const body = empty ? null : (Readable.toWeb(answer) as unknown as ReadableStream<Uint8Array>);
  if (empty) answer.resume();
  return new Response(body, { status, headers });
}
