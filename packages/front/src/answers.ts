// SPDX-License-Identifier: Apache-2.0
/** What a request gets: keys and evidence from the front itself, everything else from the application. */

import type { OutgoingHttpHeaders } from "node:http";
import type { Http2ServerRequest } from "node:http2";
import type { TLSSocket } from "node:tls";
import { ehbpHeaders, ehbpKeysPath } from "@caisson/protocol/ehbp";
import { trailersOf } from "@caisson/protocol/hop-by-hop";
import type { KeyPair } from "@caisson/protocol/hpke-context";
import { concat } from "@caisson/vocabulary/bytes";
import { hpkeConfigOf, sessionEntry, sessionExporter } from "@caisson/vocabulary/channel";
import { messageOf } from "@caisson/vocabulary/failure";
import { channelKeysPath, channelTunnelPath, evidencePath } from "@caisson/vocabulary/paths";
import {
  bodyOf,
  FrontRefusal,
  isOurs,
  openToPages,
  type Request,
  type Response,
  refuse,
  reply,
  target,
} from "./exchange.ts";
import { contentLength, towardsApplication, towardsClient } from "./headers.ts";
import { Crowded, Quotes } from "./nonce-tree.ts";
import { type SealedLimits, SealedRequests } from "./sealed.ts";
import { Full, NoAnswer, type Upstream } from "./upstream.ts";

export interface AnswerOptions {
  /** The attested HPKE key. */
  hpke: KeyPair;
  /** "encrypted": the application gets sealed requests only. */
  require: "tls" | "encrypted";
  /** Evidence over a root of nonces, as JSON. */
  attest: (nonceRoot: Uint8Array) => Promise<string>;
}

type Own = (request: Request, response: Response) => Promise<void> | void;

export class Answers {
  readonly #require: AnswerOptions["require"];
  readonly #upstream: Upstream;
  readonly #sealed: SealedRequests;
  readonly #quotes: Quotes;
  /** What the front answers itself, by path. */
  readonly #own: Record<string, Own>;

  constructor(options: AnswerOptions & { sealed: SealedLimits }, upstream: Upstream) {
    this.#require = options.require;
    this.#upstream = upstream;
    this.#sealed = new SealedRequests(options.hpke, upstream, options.sealed);
    this.#quotes = new Quotes(options.attest);
    const hpkeConfig = hpkeConfigOf(options.hpke.publicKey);
    this.#own = {
      [evidencePath]: (request, response) => this.#evidence(request, response),
      // RFC 9458 puts a length before each configuration, Tinfoil's clients want none.
      [channelKeysPath]: (_, response) =>
        reply(
          response,
          200,
          "application/ohttp-keys",
          concat(Uint8Array.of(0, hpkeConfig.length), hpkeConfig),
          openToPages,
        ),
      [ehbpKeysPath]: (_, response) =>
        reply(response, 200, "application/ohttp-keys", hpkeConfig, openToPages),
      [channelTunnelPath]: (request, response) => this.#sealed.whole(request, response),
    };
  }

  async #evidence(request: Request, response: Response): Promise<void> {
    const [, hex, bind] = /^[^?]*\?nonce=([0-9a-f]{64})(&bind=session)?$/.exec(request.url ?? "") ?? [];
    if (hex === undefined)
      throw new FrontRefusal(400, "evidence is over ?nonce=, 64 hexadecimal digits in lower case");
    const nonce = Uint8Array.fromHex(hex);
    const entry = bind === undefined ? nonce : sessionEntry(nonce, exporterOf(request));
    try {
      const { evidence: document, index, count, path } = await this.#quotes.ask(entry, connectionOf(request));
      const place = { index, count, path: path.map((hash) => hash.toHex()) };
      const text = `{"version":"caisson/channel-evidence/v1","evidence":${document},"nonce":${JSON.stringify(place)}}\n`;
      reply(response, 200, "application/json", text, openToPages);
    } catch (error) {
      if (error instanceof Crowded) throw new FrontRefusal(503, "too many ask for evidence at once");
      throw new FrontRefusal(502, `no evidence: ${messageOf(error)}`);
    }
  }

  async #answer(request: Request, response: Response): Promise<void> {
    const where = target(request);
    const path = where.path.split("?", 1)[0]!;
    const ours = Object.hasOwn(this.#own, path) ? this.#own[path] : undefined;
    if (ours !== undefined) {
      if (request.method === "OPTIONS") return preflight(response);
      if (request.method !== (path === channelTunnelPath ? "POST" : "GET"))
        throw new FrontRefusal(405, "not by this method");
      return ours(request, response);
    }
    if (isOurs(path)) throw new FrontRefusal(404, "there is no such thing");
    if (request.headers[ehbpHeaders.key] !== undefined) return this.#sealed.body(request, response);
    if (this.#require === "encrypted")
      throw new FrontRefusal(403, "this application takes sealed requests only");
    return this.#forward(where, request, response);
  }

  async #forward(where: ReturnType<typeof target>, request: Request, response: Response): Promise<void> {
    const headers = towardsApplication(request.rawHeaders, {
      way: "tls",
      address: request.socket.remoteAddress ?? "",
      host: where.host,
      skip: contentLength,
    });
    const size = bodyOf(request);
    const body = size === undefined ? {} : { body: { ...size, content: request } };
    const found = await this.#upstream.ask(
      { method: where.method, path: where.path, headers, ...body },
      response,
    );
    response.writeHead(found.statusCode!, towardsClient(found.rawHeaders));
    // A short answer came with its head: it goes in one piece.
    if (found.complete) {
      const content = found.read() as Buffer | null;
      if (found.rawTrailers.length > 0)
        response.addTrailers(trailersOf(found.rawTrailers) as OutgoingHttpHeaders);
      return void response.end(content);
    }
    found.once("end", () => {
      if (found.rawTrailers.length > 0)
        response.addTrailers(trailersOf(found.rawTrailers) as OutgoingHttpHeaders);
    });
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

  /** Answers, whatever happens. */
  give(request: Request, response: Response): void {
    response.on("error", () => response.destroy());
    request.on("error", () => response.destroy());
    this.#answer(request, response).catch((error: unknown) => {
      if (response.headersSent || response.destroyed) return void response.destroy();
      if (error instanceof FrontRefusal) refuse(response, error);
      else if (error instanceof Full) refuse(response, new FrontRefusal(503, error.message));
      else if (error instanceof NoAnswer)
        refuse(response, new FrontRefusal(502, "the application gave no answer"));
      else refuse(response, new FrontRefusal(500, "the front failed"));
      // What is left of a body would be read as the next request.
      if (!request.complete && request.httpVersionMajor === 1)
        response.once("finish", () => request.socket.destroy());
    });
  }
}

/** What all requests of one connection have in common. */
const connectionOf = (request: Request): object =>
  (request as unknown as Http2ServerRequest).stream?.session ?? request.socket;

/** What this end of the client's own TLS session exports. Throws FrontRefusal. */
function exporterOf({ socket, httpVersionMajor }: Request): Uint8Array {
  // A connection of HTTP/2 is not its requests' own.
  if (httpVersionMajor !== 1) throw new FrontRefusal(400, "a session is bound over HTTP/1.1");
  const { size, label } = sessionExporter;
  return (socket as TLSSocket).exportKeyingMaterial(size, label, undefined as unknown as Buffer);
}

function preflight(response: Response): void {
  reply(response, 204, "text/plain", "", {
    ...openToPages,
    "access-control-allow-methods": "GET, POST",
    "access-control-allow-headers": "content-type, incremental",
    "access-control-max-age": "600",
  });
}
