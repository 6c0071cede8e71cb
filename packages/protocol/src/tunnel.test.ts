// SPDX-License-Identifier: Apache-2.0
/** The tunnel: the vectors of draft-ietf-ohai-chunked-ohttp, and every way to change or cut a message. */
import { deepEqual, equal, rejects } from "node:assert/strict";
import test from "node:test";
import { concat } from "@caisson/vocabulary/bytes";
import fc from "fast-check";
import { generateKeyPair, keyPairOf } from "./hpke-context.ts";
import { beginTunnel, ChunkReader, ChunkWriter, openTunnel, TunnelError } from "./tunnel.ts";

const bytes = (hex: string) => Uint8Array.fromHex(hex);
/** The draft's example, of AES-128-GCM and key id 1. */
const vector = {
  recipient: "1c190d72acdbe4dbc69e680503bb781a932c70a12c8f3754434c67d8640d8698",
  sender: "b26d565f3f875ed480d1abced3d665159650c99174fd0b124ac4bda0c64ae324",
  request: "00034745540568747470730b6578616d706c652e636f6d012f",
  header: "010020000100018811eb457e100811c40a0aa71340a1b81d804bb986f736f2f566a7199761a032",
  chunks: [
    "1c2ad24942d4d692563012f2980c8fef437a336b9b2fc938ef77a5834f",
    "1d2e33d8fd25577afe31bd1c79d094f76b6250ae6549b473ecd950501311",
    "001c6c1395d0ef7c1022297966307b8a7f",
  ],
  nonce: "bcce7f4cb921309ba5d62edf1769ef09",
  response: "0140c8",
  answer: [
    "1179bf1cc87fa0e2c02de4546945aa3d1e48",
    "12b348b5bd4c594c16b6170b07b475845d1f32",
    "00ed9d8a796617a5b27265f4d73247f639",
  ],
};
const suite = { keyId: 1, aead: 1 } as const;

test("the draft's request: sealed to the same bytes, and opened", async () => {
  const own = await keyPairOf(bytes(vector.recipient));
  const client = await beginTunnel(own.publicKey, {
    ...suite,
    sender: await keyPairOf(bytes(vector.sender)),
  });
  equal(client.header.toHex(), vector.header);
  const request = bytes(vector.request);
  const chunks = [
    await client.writer.chunks(request.subarray(0, 12)),
    await client.writer.chunks(request.subarray(12)),
    await client.writer.last(),
  ];
  deepEqual(
    chunks.map((chunk) => chunk.toHex()),
    vector.chunks,
  );

  const front = await openTunnel(own, bytes(vector.header), suite);
  const opened = await front.reader.push(bytes(vector.chunks.join("")));
  equal(Buffer.concat([...opened, await front.reader.end()]).toString("hex"), vector.request);
});

test("the draft's answer: sealed to the same bytes, and opened", async () => {
  const own = await keyPairOf(bytes(vector.recipient));
  const client = await beginTunnel(own.publicKey, {
    ...suite,
    sender: await keyPairOf(bytes(vector.sender)),
  });
  const front = await openTunnel(own, bytes(vector.header), suite);
  const writer = new ChunkWriter(await front.answer(bytes(vector.nonce)));
  const response = bytes(vector.response);
  const chunks = [
    await writer.chunks(response.subarray(0, 1)),
    await writer.chunks(response.subarray(1)),
    await writer.last(),
  ];
  deepEqual(
    chunks.map((chunk) => chunk.toHex()),
    vector.answer,
  );
  const reader = new ChunkReader(await client.answer(bytes(vector.nonce)));
  const opened = await reader.push(bytes(vector.answer.join("")));
  equal(Buffer.concat([...opened, await reader.end()]).toString("hex"), vector.response);
});

async function sealed(message: Uint8Array) {
  const own = await generateKeyPair();
  const client = await beginTunnel(own.publicKey);
  const body = Buffer.concat([await client.writer.chunks(message), await client.writer.last()]);
  const read = async (all: Uint8Array, piece = all.length + 1): Promise<Buffer> => {
    const { reader } = await openTunnel(own, client.header);
    const parts: Uint8Array[] = [];
    for (let at = 0; at < all.length; at += piece)
      parts.push(...(await reader.push(all.subarray(at, at + piece))));
    return Buffer.concat([...parts, await reader.end()]);
  };
  return { own, client, body, read };
}

test("any message arrives, cut anywhere on its way", async () => {
  const property = fc.asyncProperty(
    fc.uint8Array({ maxLength: 100_000, size: "max" }),
    fc.integer({ min: 1, max: 40_000 }),
    async (message, piece) => {
      const { body, read } = await sealed(message);
      deepEqual(await read(body, piece), Buffer.from(message));
    },
  );
  await fc.assert(property, { numRuns: 15 });
});

test("cut off anywhere, and with any bit changed, a message is refused", async () => {
  const message = new Uint8Array(20_000).fill(7);
  const { body, read } = await sealed(message);
  const starts = [0, 1, 2, 3, 4, body.length - 18, body.length - 17, body.length - 1];
  for (const end of starts) await rejects(read(body.subarray(0, end)), TunnelError, `cut at ${end}`);
  await fc.assert(
    fc.asyncProperty(fc.nat(body.length - 1), async (end) => {
      await rejects(read(body.subarray(0, end)), TunnelError);
    }),
    { numRuns: 50 },
  );
  await fc.assert(
    fc.asyncProperty(fc.nat(body.length - 1), fc.nat(7), async (at, bit) => {
      const changed = Uint8Array.from(body);
      changed[at]! ^= 1 << bit;
      await rejects(read(changed), TunnelError);
    }),
    { numRuns: 50 },
  );
});

test("chunks that are swapped, repeated, empty, endless or too large are refused", async () => {
  const own = await generateKeyPair();
  const client = await beginTunnel(own.publicKey);
  const [a, b] = [await client.writer.chunks(Uint8Array.of(1)), await client.writer.chunks(Uint8Array.of(2))];
  const reader = async () => (await openTunnel(own, client.header)).reader;
  await rejects((await reader()).push(Buffer.concat([b, a])), TunnelError);
  await rejects((await reader()).push(Buffer.concat([a, a])), TunnelError);
  await rejects((await reader()).push(bytes("c0000000ffffffff")), TunnelError);
  await rejects((await reader()).push(bytes("80200000")), TunnelError);
  const endless = await reader();
  await endless.push(Uint8Array.of(0));
  await rejects(endless.push(new Uint8Array(2 << 20)), TunnelError);
  const other = await beginTunnel(own.publicKey);
  const nothing = await other.writer.last();
  const empty = Uint8Array.of(nothing.length - 1, ...nothing.subarray(1));
  await rejects((await openTunnel(own, other.header)).reader.push(empty), TunnelError);
});

test("an empty chunk is refused, although it is authentic", async () => {
  const own = await generateKeyPair();
  const client = await beginTunnel(own.publicKey);
  const nonce = new Uint8Array(client.nonceSize);
  const cipher = await (await openTunnel(own, client.header)).answer(nonce);
  const empty = concat(...(await cipher.seal(new Uint8Array())));
  const reader = new ChunkReader(await client.answer(nonce));
  await rejects(reader.push(Uint8Array.of(empty.length, ...empty)), /a chunk is empty/);
});

test("the last chunk is announced: without the zero before it, it is what a cut left", async () => {
  // The draft's: its first byte reads as a length that the rest does not fill.
  const own = await keyPairOf(bytes(vector.recipient));
  const { reader } = await openTunnel(own, bytes(vector.header), suite);
  const [first, second, last] = vector.chunks.map(bytes);
  equal((await reader.push(Buffer.concat([first!, second!, last!.subarray(1)]))).length, 2);
  await rejects(async () => reader.end(), /the message is cut off/);
});

test("a request for another key, suite or encapsulation is refused", async () => {
  const { own, client, body } = await sealed(Uint8Array.of(1));
  for (const at of [0, 1, 2, 3, 4, 5, 6]) {
    await rejects(openTunnel(own, client.header.with(at, client.header[at]! ^ 1)), TunnelError);
  }
  await rejects(openTunnel(own, client.header.subarray(1)), TunnelError);
  await rejects(
    openTunnel(own, Uint8Array.from([...client.header.subarray(0, 7), ...new Uint8Array(32)])),
    TunnelError,
  );
  const stranger = await openTunnel(await generateKeyPair(), client.header);
  await rejects(stranger.reader.push(body), TunnelError);
});
