// SPDX-License-Identifier: Apache-2.0
/**
 * The signatures of hellos and answers: what comes in one turn of the event loop is signed together, as the root of a tree
 * (`isSigned` of `@caisson/protocol/key-release`). Nothing waits for more to come, and what comes alone is signed alone.
 */
import { wholeTree } from "@caisson/log";
import type { IdentityKey } from "@caisson/protocol/ed25519";
import { batchLimit, batchTranscript, type Signed } from "@caisson/protocol/key-release";

interface Waiting {
  transcript: Uint8Array;
  signed: (by: Signed) => void;
}

export class Signer {
  readonly #identity: IdentityKey;
  #waiting: Waiting[] = [];

  constructor(identity: IdentityKey) {
    this.#identity = identity;
  }

  sign(transcript: Uint8Array): Promise<Signed> {
    return new Promise((signed) => {
      this.#waiting.push({ transcript, signed });
      if (this.#waiting.length === 1) setImmediate(() => this.#signWaiting());
      if (this.#waiting.length === batchLimit) this.#signWaiting();
    });
  }

  #signWaiting(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    const [first, second] = waiting;
    if (first === undefined) return;
    if (second === undefined) {
      first.signed({ signature: this.#identity.sign(first.transcript).toHex() });
      return;
    }
    const size = waiting.length;
    const { root, proofs } = wholeTree(waiting.map(({ transcript }) => transcript));
    const signature = this.#identity.sign(batchTranscript(size, root)).toHex();
    waiting.forEach(({ signed }, index) => {
      signed({ signature, batch: { size, index, proof: proofs[index]!.map((hash) => hash.toHex()) } });
    });
  }
}
