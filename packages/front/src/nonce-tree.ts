// SPDX-License-Identifier: Apache-2.0
/** One quote for many clients: the RFC 6962 tree over their nonces, and each one's way to its root. */
import { createHash } from "node:crypto";
import { channelNonceLimit } from "@caisson/vocabulary/channel";

const sha256 = (prefix: number, ...parts: readonly Uint8Array[]): Uint8Array => {
  const sum = createHash("sha256").update(Uint8Array.of(prefix));
  for (const part of parts) sum.update(part);
  return new Uint8Array(sum.digest());
};

/** Root and paths of a tree of at least one nonce; a node without a sibling is the one above it. */
export function nonceTree(nonces: readonly Uint8Array[]): {
  root: Uint8Array;
  path(index: number): Uint8Array[];
} {
  const levels = [nonces.map((nonce) => sha256(0, nonce))];
  while (levels.at(-1)!.length > 1) {
    const below = levels.at(-1)!;
    levels.push(
      Array.from({ length: Math.ceil(below.length / 2) }, (_, i) => {
        const right = below[2 * i + 1];
        return right === undefined ? below[2 * i]! : sha256(1, below[2 * i]!, right);
      }),
    );
  }
  return {
    root: levels.at(-1)![0]!,
    path: (index) =>
      levels.slice(0, -1).flatMap((level, height) => level[Math.floor(index / 2 ** height) ^ 1] ?? []),
  };
}

/** Evidence, as JSON, and where a nonce is in it. */
export interface Quoted {
  evidence: string;
  index: number;
  count: number;
  path: readonly Uint8Array[];
}

interface Waiting {
  nonce: Uint8Array;
  asker: object;
  resolve: (quoted: Quoted) => void;
  reject: (error: unknown) => void;
}

/** More wait than the next quotes can serve, or one asker for more than its share. */
export class Crowded extends Error {}

/** How long the first of a quiet moment waits for company: connections that are opened at once arrive one by one. */
const gatherMs = 25;

/** As many wait as eight quotes serve, in the order in which they came. */
const mostWaiting = 8 * channelNonceLimit;
/** Of one asker: whoever wants to keep others out needs as many connections as places. */
const mostOfOne = 4;

/** Asks for quotes one after the other, each over the nonces that came first while the last one was made. */
export class Quotes {
  readonly #attest: (root: Uint8Array) => Promise<string>;
  readonly #waiting: Waiting[] = [];
  readonly #held = new WeakMap<object, number>();
  #busy = false;

  constructor(attest: (root: Uint8Array) => Promise<string>) {
    this.#attest = attest;
  }

  /** `asker`: whose nonces are counted together, a connection. Throws Crowded, or what the guest answers. */
  ask(nonce: Uint8Array, asker: object = {}): Promise<Quoted> {
    const held = this.#held.get(asker) ?? 0;
    if (held >= mostOfOne || this.#waiting.length >= mostWaiting) return Promise.reject(new Crowded());
    this.#held.set(asker, held + 1);
    const { promise, resolve, reject } = Promise.withResolvers<Quoted>();
    this.#waiting.push({ nonce, asker, resolve, reject });
    if (!this.#busy) {
      this.#busy = true;
      setTimeout(() => void this.#serve(), gatherMs);
    }
    return promise;
  }

  async #serve(): Promise<void> {
    while (this.#waiting.length > 0) {
      const now = this.#waiting.splice(0, channelNonceLimit);
      for (const { asker } of now) this.#held.set(asker, this.#held.get(asker)! - 1);
      const tree = nonceTree(now.map(({ nonce }) => nonce));
      try {
        const evidence = await this.#attest(tree.root);
        for (const [index, { resolve }] of now.entries()) {
          resolve({ evidence, index, count: now.length, path: tree.path(index) });
        }
      } catch (error) {
        for (const { reject } of now) reject(error);
      }
    }
    this.#busy = false;
  }
}
