// SPDX-License-Identifier: Apache-2.0
/**
 * Sealed bodies as Tinfoil's SDKs send them (Encrypted HTTP Body Protocol 0.3): one HPKE context for a request's body, one
 * seal for each frame; the answer under keys exported from it. Method, path, headers and status are not hidden, and whole
 * frames can be cut off at the end unseen: the tunnel has neither weakness.
 */
import { concat } from "@caisson/vocabulary/bytes";
import { text, u32 } from "@caisson/vocabulary/frame";
import { ByteQueue } from "./byte-queue.ts";
import {
  answerCipher,
  type HpkeContext,
  type KeyPair,
  type MessageCipher,
  setupRecipient,
  setupSender,
  tagSize,
} from "./hpke-context.ts";

const info = text("ehbp request");
const answerLabel = "ehbp response";
const secretSize = 32;

export const ehbpHeaders = { key: "ehbp-encapsulated-key", nonce: "ehbp-response-nonce" } as const;
/** Where Tinfoil's clients ask for the 41 bytes; without the length that RFC 9458 puts before them. */
export const ehbpKeysPath = "/.well-known/hpke-keys";

/** Largest ciphertext that is read, and how many frames without content may follow each other. */
const frameLimit = (1 << 20) + 16;
const emptyLimit = 16;
/** Plaintext of a frame that is written. */
const ehbpFrameSize = 64 << 10;

/** A sealed body that is not one. */
export class FramingError extends Error {
  override readonly name = "FramingError";
}

/** Takes frames out of a stream: u32 length, ciphertext. Bounded: no frame is waited for that would be refused. */
export class FrameReader {
  readonly #held = new ByteQueue();
  #empty = 0;

  /** Ciphertexts that `bytes` completes. Throws FramingError. */
  push(bytes: Uint8Array): Uint8Array[] {
    const held = this.#held;
    held.push(bytes);
    const frames: Uint8Array[] = [];
    while (held.length >= 4) {
      const size = new DataView(held.peek(4).buffer).getUint32(0);
      if (size > frameLimit) throw new FramingError(`a frame of ${size} bytes is larger than ${frameLimit}`);
      if (size === 0) {
        if (++this.#empty > emptyLimit) throw new FramingError("too many empty frames");
        held.drop(4);
        continue;
      }
      if (held.length < 4 + size) break;
      this.#empty = 0;
      held.drop(4);
      frames.push(held.take(size));
    }
    return frames;
  }

  /** Throws FramingError where the stream ends inside a frame. */
  end(): void {
    if (this.#held.length > 0) throw new FramingError("the body ends inside a frame");
  }
}

/** Frames of one message, at most `ehbpFrameSize` in each. */
export async function sealFrames(cipher: MessageCipher, message: Uint8Array): Promise<Uint8Array> {
  const frames: Uint8Array[] = [];
  for (let at = 0; at < message.length; at += ehbpFrameSize) {
    const plain = message.subarray(at, at + ehbpFrameSize);
    frames.push(u32(plain.length + tagSize), ...(await cipher.seal(plain)));
  }
  return concat(...frames);
}

/** A client's side: the headers' key, the request's cipher, and the answer's once its nonce is there. */
export async function beginEhbp(publicKey: Uint8Array) {
  const { enc, context } = await setupSender(publicKey, info);
  return { enc, context, answer: (nonce: Uint8Array) => ehbpAnswer(context, enc, nonce) };
}

/** The front's side. Throws where `enc` is not a usable key. */
export const openEhbp = (own: KeyPair, enc: Uint8Array): Promise<HpkeContext> =>
  setupRecipient(own, enc, info);

/** The answer's cipher. */
export async function ehbpAnswer(
  context: HpkeContext,
  enc: Uint8Array,
  nonce: Uint8Array,
): Promise<MessageCipher> {
  return answerCipher(await context.export(answerLabel, secretSize), enc, nonce);
}
