// SPDX-License-Identifier: Apache-2.0
/**
 * Applications whose first policy operators signed at another replica a moment ago: they are looked for before a guest
 * is told that nobody knows its application, which it takes as final.
 *
 * Invariants: who asks waits for a look that began after it did; anybody can ask, so that looks are apart, and few wait
 * for one.
 */
import { setTimeout } from "node:timers/promises";

/** Between the beginnings of two looks, ms. */
const apartMs = 100;
/** So that those whom nobody knows hold a sixteenth of all connections. */
const mostWaiting = 32;

export class Newcomers {
  readonly #look: () => Promise<unknown>;
  readonly #isKnown: (app: string) => boolean;
  readonly #elapsed: () => number;
  #next: Promise<void> | undefined;
  #last = Number.NEGATIVE_INFINITY;
  #waiting = 0;

  /** `look` reads what operators signed, after which `isKnown` says whether an application (hex) has a policy. */
  constructor(look: () => Promise<unknown>, isKnown: (app: string) => boolean, elapsed: () => number) {
    this.#look = look;
    this.#isKnown = isKnown;
    this.#elapsed = elapsed;
  }

  /** Whether an application that had none has a policy now; no, where too many wait or the store does not answer. */
  async has(app: string): Promise<boolean> {
    if (this.#waiting === mostWaiting) return false;
    this.#waiting += 1;
    try {
      this.#next ??= this.#lookSoon();
      await this.#next;
      return this.#isKnown(app);
    } catch {
      return false;
    } finally {
      this.#waiting -= 1;
    }
  }

  async #lookSoon(): Promise<void> {
    await setTimeout(Math.max(0, this.#last + apartMs - this.#elapsed()));
    this.#next = undefined;
    this.#last = this.#elapsed();
    await this.#look();
  }
}
