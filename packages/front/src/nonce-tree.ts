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
  resolve: (quoted: Quoted) => void;
  reject: (error: unknown) => void;
}

/** More clients wait than the next quote can serve. */
export class Crowded extends Error {}

/** How long the first of a quiet moment waits for company: connections that are opened at once arrive one by one. */
const gatherMs = 25;

/** Asks for quotes one after the other, each over all nonces that came while the last one was made. */
export class Quotes {
  readonly #attest: (root: Uint8Array) => Promise<string>;
  #waiting: Waiting[] = [];
  #busy = false;

  constructor(attest: (root: Uint8Array) => Promise<string>) {
    this.#attest = attest;
  }

  /** Throws Crowded, or what the guest answers. */
  ask(nonce: Uint8Array): Promise<Quoted> {
    if (this.#waiting.length >= channelNonceLimit) return Promise.reject(new Crowded());
    const { promise, resolve, reject } = Promise.withResolvers<Quoted>();
    this.#waiting.push({ nonce, resolve, reject });
    if (!this.#busy) {
      this.#busy = true;
      setTimeout(() => void this.#serve(), gatherMs);
    }
    return promise;
  }

  async #serve(): Promise<void> {
    while (this.#waiting.length > 0) {
      const now = this.#waiting;
      this.#waiting = [];
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
