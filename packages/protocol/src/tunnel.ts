// SPDX-License-Identifier: Apache-2.0
/**
 * The tunnel: chunked Oblivious HTTP (draft-ietf-ohai-chunked-ohttp, RFC 9458, RFC 9292) without the relay. A whole
 * request (method, path, fields, content) is sealed to the guest's key, its answer under keys exported from it; chunks
 * cannot be left out, reordered or cut off at the end, since the last one is sealed as the last.
 */
import { concat } from "@caisson/vocabulary/bytes";
import { text } from "@caisson/vocabulary/frame";
import { readVarint, varint } from "./binary-http.ts";
import { ByteQueue } from "./byte-queue.ts";
import {
  type Aead,
  aes256Gcm,
  answerCipher,
  answerEntropySize,
  type HpkeContext,
  type KeyPair,
  type MessageCipher,
  setupRecipient,
  setupSender,
  tagSize,
} from "./hpke-context.ts";

export const tunnelTypes = {
  request: "message/ohttp-chunked-req",
  answer: "message/ohttp-chunked-res",
} as const;
/** RFC 9458, section 5.3: the key of a request is not the front's. Nothing was done; attest anew, and send it again. */
export const keyProblem = "https://iana.org/assignments/http-problem-types#ohttp-key";

/** Content of a chunk that is written; what every receiver has to take. */
export const chunkSize = 16 << 10;
/** Largest chunk that is read. */
const chunkLimit = (1 << 20) + tagSize;

const answerLabel = "message/bhttp chunked response";
const final = text("final");
export const tunnelHeaderSize = 7 + 32;

const algorithms = (keyId: number, aead: Aead): Uint8Array =>
  Uint8Array.of(keyId, 0x00, 0x20, 0x00, 0x01, 0x00, aead);
const infoOf = (header: Uint8Array): Uint8Array =>
  concat(text("message/bhttp chunked request"), Uint8Array.of(0), header);

/** Chunks that are not of this message, or not all of it. */
export class TunnelError extends Error {
  override readonly name = "TunnelError";
}

/** Seals chunks: a length and a ciphertext each, the last under its own AAD behind a zero. */
export class ChunkWriter {
  readonly #cipher: MessageCipher;
  constructor(cipher: MessageCipher) {
    this.#cipher = cipher;
  }
  /** `content` is not empty; it is cut where it is longer than a chunk. */
  async chunks(content: Uint8Array): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    for (let at = 0; at < content.length; at += chunkSize) {
      const plain = content.subarray(at, at + chunkSize);
      parts.push(varint(plain.length + tagSize), ...(await this.#cipher.seal(plain)));
    }
    return concat(...parts);
  }
  async last(content: Uint8Array = new Uint8Array()): Promise<Uint8Array> {
    return concat(varint(0), ...(await this.#cipher.seal(content, final)));
  }
}

/** Opens chunks out of a stream. Bounded: nothing is waited for that would be refused. */
export class ChunkReader {
  readonly #cipher: MessageCipher;
  readonly #held = new ByteQueue();
  #last = false;
  #opened = 0;
  constructor(cipher: MessageCipher) {
    this.#cipher = cipher;
  }

  /** How many chunks were authentic so far. */
  get opened(): number {
    return this.#opened;
  }

  /** Contents of the chunks that `bytes` completes. Throws TunnelError. */
  async push(bytes: Uint8Array): Promise<Uint8Array[]> {
    const held = this.#held;
    held.push(bytes);
    const found: Uint8Array[] = [];
    while (!this.#last) {
      const length = readVarint(held.peek(8));
      if (length === undefined) break;
      if (length.value > chunkLimit) throw new TunnelError(`a chunk of ${length.value} bytes is too large`);
      if (length.value === 0) {
        this.#last = true;
        held.drop(length.size);
        break;
      }
      if (held.length < length.size + length.value) break;
      held.drop(length.size);
      const content = await this.#open(held.take(length.value));
      if (content.length === 0) throw new TunnelError("a chunk is empty");
      found.push(content);
    }
    if (this.#last && held.length > chunkLimit) throw new TunnelError("the last chunk is too large");
    return found;
  }

  /** The last chunk's content. Throws TunnelError where the stream ended before it. */
  end(): Promise<Uint8Array> {
    if (!this.#last) throw new TunnelError("the message is cut off");
    return this.#open(this.#held.take(this.#held.length), final);
  }

  async #open(ciphertext: Uint8Array, aad?: Uint8Array): Promise<Uint8Array> {
    try {
      const content = await this.#cipher.open(ciphertext, aad);
      this.#opened++;
      return content;
    } catch {
      throw new TunnelError("a chunk is not authentic");
    }
  }
}

async function answer(
  context: HpkeContext,
  enc: Uint8Array,
  nonce: Uint8Array,
  aead: Aead,
): Promise<MessageCipher> {
  const secret = await context.export(answerLabel, answerEntropySize(aead));
  return answerCipher(secret, enc, nonce, aead);
}

/** A client's side: what the request begins with, its writer, and the answer's cipher once its nonce is there. */
export async function beginTunnel(
  publicKey: Uint8Array,
  { keyId = 0, aead = aes256Gcm, sender }: { keyId?: number; aead?: Aead; sender?: KeyPair } = {},
) {
  const start = algorithms(keyId, aead);
  const { enc, context } = await setupSender(publicKey, infoOf(start), aead, sender);
  return {
    header: concat(start, enc),
    writer: new ChunkWriter(context),
    nonceSize: answerEntropySize(aead),
    answer: (nonce: Uint8Array) => answer(context, enc, nonce, aead),
  };
}

/** The front's side, from the header (39 bytes). Throws TunnelError for another key or suite, or an unusable `enc`. */
export async function openTunnel(
  own: KeyPair,
  header: Uint8Array,
  { keyId = 0, aead = aes256Gcm }: { keyId?: number; aead?: Aead } = {},
) {
  const start = algorithms(keyId, aead);
  if (header.length !== tunnelHeaderSize || start.some((byte, at) => header[at] !== byte)) {
    throw new TunnelError("the request is for another key or suite");
  }
  const enc = header.slice(start.length);
  try {
    const context = await setupRecipient(own, enc, infoOf(start), aead);
    return {
      enc,
      reader: new ChunkReader(context),
      nonceSize: answerEntropySize(aead),
      answer: (nonce: Uint8Array) => answer(context, enc, nonce, aead),
    };
  } catch {
    throw new TunnelError("the encapsulated key is not one");
  }
}
