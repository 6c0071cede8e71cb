// SPDX-License-Identifier: Apache-2.0
/**
 * A door on this machine for programs that know nothing of evidence: plain HTTP on loopback or a Unix socket goes to the
 * guest over a channel that ends there.
 *
 * Invariants: a request goes on only while the guest is accepted; one whose Host is not this door's is refused, since a web
 * page may have made its own name point here.
 */
import { createServer, type IncomingMessage, type OutgoingHttpHeaders, type ServerResponse } from "node:http";
import { request as httpsRequest } from "node:https";
import { isIP } from "node:net";
import type { Duplex } from "node:stream";
import { Readable } from "node:stream";
import type { ReadableStream as NodeStream } from "node:stream/web";
import { hopByHopFields, trailersOf } from "@caisson/protocol/hop-by-hop";
import { messageOf } from "@caisson/vocabulary/failure";
import type { Attestation, AttestationOptions, Way } from "../attestation.ts";
import { ChannelError } from "../errors.ts";
import { AttestedClient } from "./fetch.ts";

/** Where it listens: a loopback address and port, or the path of a Unix socket. */
export type Place = { host: string; port: number } | { path: string };

/** "127.0.0.1:8443", "[::1]:8443" or a path. Throws ChannelError `channel/address`. */
export function parsePlace(text: string): Place {
  if (text.startsWith("/") || text.startsWith("./")) return { path: text };
  const [, host = "", port = ""] = /^(.*):(\d{1,5})$/.exec(text) ?? [];
  const bare = host.replace(/^\[(.*)\]$/, "$1");
  const loopback = /^127\.\d+\.\d+\.\d+$/.test(bare) || bare === "::1" || bare === "localhost";
  if (loopback && Number(port) <= 65_535) return { host: bare, port: Number(port) };
  throw new ChannelError("channel/address", `'${text}' is not a place on this machine`, {
    fix: "127.0.0.1:PORT, [::1]:PORT, or the path of a Unix socket: whoever reaches it speaks in the clear",
  });
}

export interface Door {
  /** Where programs ask: `http://127.0.0.1:8443`, or the socket's path. */
  url: string;
  close(): void;
}

export interface DoorOptions extends AttestationOptions {
  ways?: readonly Way[];
  /** Each time the guest was attested anew. */
  attested?: (attestation: Attestation) => void;
}

const isOfConnection = (name: string): boolean =>
  hopByHopFields.has(name.toLowerCase()) || name.toLowerCase() === "host";

/** Attests the guest, then opens the door. Throws ChannelError, VerifyError. */
export async function openDoor(url: string, place: Place, options: DoorOptions): Promise<Door> {
  const { ways, attested, ...rest } = options;
  const client = new AttestedClient(url, rest, ways);
  const passage = new Passage(client, place, attested);
  await passage.attest();
  const server = createServer((request, response) => {
    response.on("error", () => response.destroy());
    passage.pass(request, response).catch((error: unknown) => refuse(response, error));
  });
  server.on("upgrade", (request, socket, head) => {
    socket.on("error", () => socket.destroy());
    passage
      .passUpgrade(request, socket, head)
      .catch(() => socket.end("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      client.close();
      reject(new ChannelError("channel/occupied", `cannot listen there: ${error.message}`, { cause: error }));
    });
    server.listen(place, resolve);
  });
  const address = server.address();
  const bare = "path" in place ? place.path : place.host.includes(":") ? `[${place.host}]` : place.host;
  return {
    url: typeof address === "string" || address === null ? bare : `http://${bare}:${address.port}`,
    close() {
      server.close();
      server.closeAllConnections();
      client.close();
    },
  };
}

/** What goes through a door, each request by the way that the guest's last attestation found. */
class Passage {
  readonly #client: AttestedClient;
  readonly #place: Place;
  readonly #attested: DoorOptions["attested"];
  #last: Attestation | undefined;

  constructor(client: AttestedClient, place: Place, attested: DoorOptions["attested"]) {
    this.#client = client;
    this.#place = place;
    this.#attested = attested;
  }

  /** The guest's attestation, made anew when it is too old. */
  async attest(): Promise<Attestation> {
    const attestation = await this.#client.guest.attest();
    if (attestation !== this.#last) this.#attested?.(attestation);
    this.#last = attestation;
    return attestation;
  }

  async pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (!isFor(this.#place, request))
      return say(response, 421, "this door is for programs of this machine: wrong Host");
    // A URL of it could be another host's, or another path.
    if (!request.url!.startsWith("/")) return say(response, 400, "this door takes paths, and is not a proxy");
    const { way } = await this.attest();
    if (way === "tunnel") await this.#passSealed(request, response);
    else this.#passOn(request, response);
  }

  #passOn(request: IncomingMessage, response: ServerResponse): void {
    const { origin } = this.#client.guest;
    const isChunked = request.headers["transfer-encoding"] !== undefined;
    const chunked = isChunked ? [["Transfer-Encoding", "chunked"]] : [];
    const sending = httpsRequest({
      host: origin.hostname,
      port: origin.port,
      path: request.url!,
      method: request.method!,
      agent: this.#client.agent,
      headers: [...fieldsOf(request), ["Host", origin.host], ...chunked].flat() as unknown as Record<
        string,
        string
      >,
    });
    sending.once("error", (error) => refuse(response, error));
    sending.once("response", (answer) => {
      response.writeHead(answer.statusCode!, fieldsOf(answer).flat());
      answer.once("end", () => {
        if (answer.rawTrailers.length > 0)
          response.addTrailers(trailersOf(answer.rawTrailers) as OutgoingHttpHeaders);
      });
      answer.pipe(response);
      answer.once("close", () => answer.complete || response.destroy());
    });
    response.once("close", () => response.writableFinished || sending.destroy());
    if (hasBody(request)) request.pipe(sending);
    else sending.end();
  }

  async #passSealed(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "GET" } = request;
    const bodiless = method === "GET" || method === "HEAD";
    if (bodiless && hasBody(request)) {
      return say(
        response,
        501,
        `a sealed ${method} has no body: fetch has none, and dropping it would be silent`,
      );
    }
    const answer = await this.#client.fetch(`${this.#client.guest.origin.origin}${request.url}`, {
      method,
      headers: fieldsOf(request),
      ...(!bodiless && { body: Readable.toWeb(request) as unknown as BodyInit, duplex: "half" }),
    } as RequestInit);
    response.writeHead(answer.status, [...answer.headers].flat());
    if (answer.body === null) return void response.end();
    const body = Readable.fromWeb(answer.body as NodeStream);
    body.once("error", () => response.destroy());
    body.pipe(response);
  }

  async passUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    if (!isFor(this.#place, request)) throw new Error("wrong Host");
    if ((await this.attest()).way !== "tls")
      throw new Error("WebSockets pass only where TLS ends in the guest");
    const { guest } = this.#client;
    const end = await guest.connect();
    const lines = fieldsOf(request).map(([name, value]) => `${name}: ${value}\r\n`);
    const { upgrade = "" } = request.headers;
    end.write(
      `GET ${request.url} HTTP/1.1\r\nHost: ${guest.origin.host}\r\nConnection: Upgrade\r\nUpgrade: ${upgrade}\r\n${lines.join("")}\r\n`,
    );
    end.write(head);
    socket.pipe(end).pipe(socket);
    socket.once("close", () => end.destroy());
    end.once("close", () => socket.destroy());
  }
}

/** Whether a request names this door as its host. */
function isFor(place: Place, { headers: { host = "" } }: IncomingMessage): boolean {
  if ("path" in place) return true;
  const name = /^(.*):(\d+)$/.exec(host);
  const bare = (name?.[1] ?? host).replace(/^\[(.*)\]$/, "$1");
  return (
    bare === "localhost" ||
    (isIP(bare) !== 0 && (bare === place.host || bare === "127.0.0.1" || bare === "::1"))
  );
}

/** The header fields that are the message's own, not its connection's. */
const fieldsOf = ({ rawHeaders }: IncomingMessage): [string, string][] =>
  rawHeaders.flatMap((name, i): [string, string][] =>
    i % 2 === 0 && !isOfConnection(name) ? [[name, rawHeaders[i + 1]!]] : [],
  );

const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;

function say(response: ServerResponse, status: number, text: string): void {
  if (response.headersSent) return void response.destroy();
  response.writeHead(status, { "content-type": "text/plain" });
  response.end(`${text}\n`);
}

const refuse = (response: ServerResponse, error: unknown): void =>
  say(response, 502, error instanceof ChannelError ? `${error.message}   [${error.code}]` : messageOf(error));
