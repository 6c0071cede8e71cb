// SPDX-License-Identifier: Apache-2.0
/**
 * Requests that were sealed to this machine: bodies (EHBP) and whole ones (tunnel).
 *
 * Invariants: nothing reaches the application before all of a request was authentic; an encapsulated key is good for one
 * request, as long as it is remembered, so that a recorded request is not played again; what is held of all requests
 * together is bounded, until the application took it, and where there is no room the one that arrives for longest goes.
 */
import type { IncomingMessage } from "node:http";
import { readRequest, responseContent, responseEnd, responseHead } from "@caisson/protocol/binary-http";
import {
  ehbpAnswer,
  ehbpHeaders,
  FrameReader,
  FramingError,
  openEhbp,
  sealFrames,
} from "@caisson/protocol/ehbp";
import { type KeyPair, random } from "@caisson/protocol/hpke-context";
import {
  type ChunkReader,
  ChunkWriter,
  chunkSize,
  keyProblem,
  openTunnel,
  TunnelError,
  tunnelHeaderSize,
  tunnelTypes,
} from "@caisson/protocol/tunnel";
import { concat } from "@caisson/vocabulary/bytes";
import { messageOf } from "@caisson/vocabulary/failure";
import {
  bodyOf,
  checkedTarget,
  FrontRefusal,
  openToPages,
  type Request,
  type Response,
  reply,
  single,
  target,
  write,
} from "./exchange.ts";
import { towardsApplication, towardsClient } from "./headers.ts";
import type { Outgoing, Upstream } from "./upstream.ts";

export interface SealedLimits {
  /** Plaintext of one request, of all together, and how long one may take to arrive. */
  request: number;
  total: number;
  arrivalMs: number;
  /** Encapsulated keys that are remembered. */
  remembered: number;
}

export const sealedLimits: SealedLimits = {
  request: 16 << 20,
  total: 128 << 20,
  arrivalMs: 120_000,
  remembered: 1 << 17,
};

const ehbpKeyProblem = "urn:ietf:params:ehbp:error:key-config";
const lengthAndRange = new Set(["content-length"]);

export class SealedRequests {
  readonly #key: KeyPair;
  readonly #upstream: Upstream;
  readonly #limits: SealedLimits;
  readonly #seen = new Set<string>();
  /** Bytes that are held of each request, the oldest first; and which of them are still arriving. */
  readonly #holding = new Map<Request, number>();
  readonly #arriving = new Set<Request>();
  #held = 0;

  constructor(key: KeyPair, upstream: Upstream, limits: SealedLimits) {
    this.#key = key;
    this.#upstream = upstream;
    this.#limits = limits;
  }

  /** A request whose body is sealed, named by its header. Throws FrontRefusal. */
  body(request: Request, response: Response): Promise<void> {
    return this.#body(request, response).finally(() => this.#give(request));
  }

  async #body(request: Request, response: Response): Promise<void> {
    const where = target(request);
    const hex = single(request, ehbpHeaders.key) ?? "";
    if (!/^[0-9a-f]{64}$/.test(hex))
      throw new FrontRefusal(400, `${ehbpHeaders.key} is not 64 hexadecimal digits`);
    if (bodyOf(request) === undefined) throw new FrontRefusal(400, "there is no body that could be sealed");
    const enc = Uint8Array.fromHex(hex);
    const context = await openEhbp(this.#key, enc).catch(() => {
      throw new FrontRefusal(400, "the encapsulated key is not one");
    });
    const content = await this.#openBody(request, context);
    this.#once(hex);
    const { remoteAddress: address = "" } = request.socket;
    const headers = towardsApplication(request.rawHeaders, {
      way: "ehbp",
      address,
      host: where.host,
      skip: lengthAndRange,
    });
    const answer = await this.#ask(
      request,
      { ...where, headers, body: { size: content.length, content } },
      response,
    );
    const nonce = random(32);
    const cipher = await ehbpAnswer(context, enc, nonce);
    const fields = towardsClient(answer.rawHeaders, lengthAndRange);
    fields.push(ehbpHeaders.nonce, nonce.toHex());
    if (answer.headers["access-control-allow-origin"] !== undefined) {
      fields.push("access-control-expose-headers", ehbpHeaders.nonce);
    }
    response.writeHead(answer.statusCode!, fields);
    for await (const piece of answer) await write(response, await sealFrames(cipher, piece as Buffer));
    response.end();
  }

  /** The plaintext of a body's frames, of which there is one at least. Throws FrontRefusal. */
  #openBody(request: Request, context: Awaited<ReturnType<typeof openEhbp>>): Promise<Uint8Array> {
    const reader = new FrameReader();
    let opened = 0;
    const refusal = (): never => {
      throw opened === 0
        ? new FrontRefusal(422, "the body is sealed to another key", ehbpKeyProblem)
        : new FrontRefusal(400, "a frame is not authentic");
    };
    return this.#collect(
      request,
      async (piece) => {
        const parts: Uint8Array[] = [];
        for (const frame of reader.push(piece)) {
          parts.push(await context.open(frame).catch(refusal));
          opened++;
        }
        return parts;
      },
      () => {
        reader.end();
        if (opened === 0) throw new FrontRefusal(400, "the body has no frame");
        return Promise.resolve(new Uint8Array());
      },
    );
  }

  /** A whole request, sealed. Throws FrontRefusal. */
  whole(request: Request, response: Response): Promise<void> {
    return this.#whole(request, response).finally(() => this.#give(request));
  }

  async #whole(request: Request, response: Response): Promise<void> {
    if (request.method !== "POST" || single(request, "content-type") !== tunnelTypes.request) {
      throw new FrontRefusal(415, `a sealed request comes by POST, as ${tunnelTypes.request}`);
    }
    const { message, enc, nonceSize, answer: answerWith } = await this.#openWhole(request);
    this.#once(enc.toHex());
    const inner = readInner(message);
    const { remoteAddress: address = "" } = request.socket;
    const headers = towardsApplication(
      inner.fields.flatMap(([name, value]) => [name, value]),
      { way: "tunnel", address, host: inner.host, skip: lengthAndRange },
    );
    const body =
      inner.content.length === 0 ? {} : { body: { size: inner.content.length, content: inner.content } };
    const answer = await this.#ask(
      request,
      { method: inner.method, path: inner.path, headers, ...body },
      response,
    );
    const nonce = random(nonceSize);
    await answerWhole(response, answer, inner.method, nonce, new ChunkWriter(await answerWith(nonce)));
  }

  /** A request's plaintext, and what its answer is sealed with. Throws FrontRefusal. */
  async #openWhole(request: Request): Promise<OpenTunnel & { message: Uint8Array }> {
    let front: OpenTunnel | undefined;
    let start: Uint8Array = new Uint8Array();
    const message = await this.#collect(
      request,
      async (piece) => {
        let chunks = piece;
        if (front === undefined) {
          start = concat(start, piece);
          if (start.length < tunnelHeaderSize) return [];
          front = await openTunnel(this.#key, start.subarray(0, tunnelHeaderSize)).catch(keyRefusal);
          chunks = start.subarray(tunnelHeaderSize);
        }
        return front.reader.push(chunks).catch(refusalOf(front.reader));
      },
      () => {
        if (front === undefined) throw new FrontRefusal(400, "the request is cut off");
        return front.reader.end().catch(refusalOf(front.reader));
      },
    );
    return { ...front!, message };
  }

  /** The application's answer; from then on nothing is held of the request. Throws NoAnswer. */
  #ask(request: Request, outgoing: Outgoing, response: Response): Promise<IncomingMessage> {
    return this.#upstream.ask(outgoing, response).finally(() => {
      this.#give(request);
    });
  }

  /** Counts bytes that came. Throws FrontRefusal where there is no room, not even after the slowest other one went. */
  #take(request: Request, size: number): void {
    const now = (this.#holding.get(request) ?? 0) + size;
    const { request: most, total } = this.#limits;
    if (now > most + (most >> 3)) throw new FrontRefusal(413, `a sealed request has at most ${most} bytes`);
    this.#holding.set(request, now);
    this.#held += size;
    for (const slow of this.#arriving) {
      if (this.#held <= total) return;
      if (slow === request) continue;
      this.#give(slow);
      slow.destroy();
    }
    if (this.#held > total) throw new FrontRefusal(503, "too much is held for others at the moment");
  }

  #give(request: Request): void {
    this.#held -= this.#holding.get(request) ?? 0;
    this.#holding.delete(request);
    this.#arriving.delete(request);
  }

  /** All of a request's content, opened; it is held until it is given back. Throws FrontRefusal. */
  async #collect(
    request: Request,
    open: (piece: Uint8Array) => Promise<Uint8Array[]>,
    end: () => Promise<Uint8Array>,
  ): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    const timer = setTimeout(() => request.destroy(), this.#limits.arrivalMs);
    this.#arriving.add(request);
    try {
      // Ending early must not close the connection: the refusal goes over it.
      for await (const piece of request.iterator({ destroyOnReturn: false })) {
        // Counted as it comes: what is not opened yet lies in memory, too.
        this.#take(request, (piece as Buffer).length);
        parts.push(...(await open(piece as Buffer)));
      }
      parts.push(await end());
      return concat(...parts);
    } catch (error) {
      if (error instanceof FramingError || error instanceof TunnelError)
        throw new FrontRefusal(400, error.message);
      throw error;
    } finally {
      clearTimeout(timer);
      this.#arriving.delete(request);
    }
  }

  /** Throws FrontRefusal where a request with this encapsulated key was taken before. */
  #once(enc: string): void {
    if (this.#seen.has(enc)) throw new FrontRefusal(409, "this request was taken already");
    this.#seen.add(enc);
    if (this.#seen.size <= this.#limits.remembered) return;
    const [oldest] = this.#seen;
    this.#seen.delete(oldest!);
  }
}

type OpenTunnel = Awaited<ReturnType<typeof openTunnel>>;

/** Seals the application's answer: at once where it fits into one chunk, else as it comes. */
async function answerWhole(
  response: Response,
  answer: IncomingMessage,
  method: string,
  nonce: Uint8Array,
  writer: ChunkWriter,
): Promise<void> {
  const raw = towardsClient(answer.rawHeaders);
  const fields = raw.flatMap((name, i): [string, string][] =>
    i % 2 === 0 ? [[name.toLowerCase(), raw[i + 1]!]] : [],
  );
  const head = responseHead(answer.statusCode!, fields);
  const size = Number(answer.headers["content-length"] ?? Number.NaN);
  if (method === "HEAD" || size + head.length < chunkSize - 16) {
    const content: Uint8Array[] = [];
    for await (const piece of answer) content.push(piece as Buffer);
    const all = concat(...content);
    const sealed = await writer.last(concat(head, all.length > 0 ? responseContent(all) : all, responseEnd));
    return reply(response, 200, tunnelTypes.answer, concat(nonce, sealed), openToPages);
  }
  const type = { "content-type": tunnelTypes.answer, "cache-control": "no-store", ...openToPages };
  response.writeHead(200, type);
  await write(response, concat(nonce, await writer.chunks(head)));
  for await (const piece of answer) {
    await write(response, await writer.chunks(responseContent(piece as Buffer)));
  }
  response.end(await writer.last(responseEnd));
}

const keyRefusal = (error: Error): never => {
  throw new FrontRefusal(400, error.message, keyProblem);
};

/** Where not even the first chunk is authentic, the key is another one. */
const refusalOf =
  (reader: ChunkReader) =>
  (error: Error): never => {
    throw new FrontRefusal(400, error.message, reader.opened === 0 ? keyProblem : undefined);
  };

/** Throws FrontRefusal. */
function readInner(message: Uint8Array) {
  try {
    const { method, scheme, authority, path, fields, content } = readRequest(message);
    if (scheme !== "https") throw new Error("the scheme is https");
    const hosts = fields.filter(([name]) => name === "host").map(([, value]) => value);
    if (hosts.some((host) => host !== authority)) throw new Error("a request names one host");
    return { ...checkedTarget(method, path, authority), fields, content };
  } catch (error) {
    if (error instanceof FrontRefusal) throw error;
    throw new FrontRefusal(400, `the sealed request: ${messageOf(error)}`);
  }
}
