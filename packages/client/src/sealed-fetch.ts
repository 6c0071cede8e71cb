// SPDX-License-Identifier: Apache-2.0
/** A fetch whose request and answer only the guest can read, over whatever carries a POST. Node and browsers. */
import { type Field, MessageError, ResponseReader, writeRequest } from "@caisson/protocol/binary-http";
import { beginTunnel, ChunkReader, keyProblem, TunnelError, tunnelTypes } from "@caisson/protocol/tunnel";
import { firstBytes, piecesOf } from "@caisson/vocabulary/body";
import { concat } from "@caisson/vocabulary/bytes";
import { hpkeKeyOf } from "@caisson/vocabulary/channel";
import { messageOf } from "@caisson/vocabulary/failure";
import { ChannelError } from "./errors.ts";

/** Carries sealed bytes to the front and brings what it answers. */
export type Carrier = (body: Uint8Array<ArrayBuffer>, signal: AbortSignal) => Promise<Response>;

/** The front has other keys by now: it did nothing, and evidence has to be asked for again. */
export class KeyChanged extends Error {}

/** Fields that are the connection's, or that the front makes itself. */
const dropped = new Set([
  "host",
  "connection",
  "content-length",
  "transfer-encoding",
  "keep-alive",
  "upgrade",
  "te",
]);
const bodiless = new Set([101, 204, 205, 304]);

/**
 * Throws KeyChanged; ChannelError `channel/protocol` for an answer that is not the guest's, or not all of it: then the
 * body that was returned fails while it is read.
 */
export async function sealedFetch(
  carry: Carrier,
  hpkeConfig: Uint8Array,
  request: Request,
): Promise<Response> {
  const url = new URL(request.url);
  const content = new Uint8Array(await request.arrayBuffer());
  const fields: Field[] = [...request.headers].filter(([name]) => !dropped.has(name));
  const message = writeRequest({
    method: request.method,
    scheme: "https",
    authority: url.host,
    path: `${url.pathname}${url.search}`,
    fields,
    content,
  });
  const tunnel = await beginTunnel(hpkeKeyOf(hpkeConfig)!);
  const body = concat(tunnel.header, await tunnel.writer.chunks(message), await tunnel.writer.last());
  const answer = await carry(body, request.signal);
  if (answer.status !== 200 || answer.headers.get("content-type") !== tunnelTypes.answer) {
    throw await notSealed(answer);
  }
  const pieces = opened(answer, tunnel);
  const first = await pieces.next();
  if (first.done === true || !("status" in first.value)) throw broken("it has no head");
  const { status, fields: answered } = first.value;
  const stream = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await pieces.next();
        if (done === true) controller.close();
        else controller.enqueue(value as Uint8Array);
      } catch (error) {
        controller.error(error);
      }
    },
    async cancel() {
      await pieces.return(undefined);
    },
  });
  const isEmpty = bodiless.has(status) || request.method === "HEAD";
  try {
    const headers = new Headers(answered.map(([name, value]): [string, string] => [name, value]));
    return new Response(isEmpty ? null : stream, { status, headers });
  } catch (error) {
    throw broken(`${status} and its fields cannot be an answer of fetch: ${messageOf(error)}`);
  }
}

type Tunnel = Awaited<ReturnType<typeof beginTunnel>>;
type Head = NonNullable<ResponseReader["head"]>;

/** The head, then pieces of content; all of them were authentic, and after the last one nothing is missing. */
async function* opened(answer: Response, tunnel: Tunnel): AsyncGenerator<Head | Uint8Array, undefined> {
  const response = new ResponseReader();
  let chunks: ChunkReader | undefined;
  let start: Uint8Array = new Uint8Array();
  let said = false;
  const taken = function* (plain: Uint8Array): Generator<Head | Uint8Array> {
    const content = response.push(plain);
    if (!said && response.head !== undefined) {
      said = true;
      yield response.head;
    }
    yield* content;
  };
  try {
    for await (const piece of piecesOf(answer.body)) {
      let rest: Uint8Array = piece;
      if (chunks === undefined) {
        start = concat(start, piece);
        if (start.length < tunnel.nonceSize) continue;
        chunks = new ChunkReader(await tunnel.answer(start.slice(0, tunnel.nonceSize)));
        rest = start.subarray(tunnel.nonceSize);
      }
      for (const plain of await chunks.push(rest)) yield* taken(plain);
    }
    if (chunks === undefined) throw new TunnelError("the message is cut off");
    yield* taken(await chunks.end());
    response.end();
  } catch (error) {
    if (error instanceof TunnelError || error instanceof MessageError) throw broken(error.message);
    throw error;
  }
  return undefined;
}

const broken = (why: string): ChannelError =>
  new ChannelError("channel/protocol", `the answer is not the guest's, or not all of it: ${why}`);

/** What an answer in the clear means: anybody could have given it. */
async function notSealed(answer: Response): Promise<Error> {
  const { bytes } = await firstBytes(piecesOf(answer.body), 4096);
  const text = new TextDecoder().decode(bytes);
  if (answer.status === 400 && text.includes(keyProblem)) return new KeyChanged();
  return new ChannelError(
    "channel/protocol",
    `instead of a sealed answer came ${answer.status} in the clear, which anybody on the way could have sent`,
    { facts: [["came", text.trim().slice(0, 200)]] },
  );
}
