// SPDX-License-Identifier: Apache-2.0
/**
 * What comes together is done together: a transaction, a signature and a turn of the event loop cost about as much for one as
 * for ten, and code that ran a moment ago is still in the processor's caches.
 *
 * Invariants: what comes alone is done at once; one batch is under way at a time, in the order in which its parts came;
 * what waits, waits for the batch before it and for no longer than a pace.
 */

import { performance } from "node:perf_hooks";

/** Between the beginnings of two batches while several things come together, ms. */
export interface Pace {
  /** Of a process that has nothing else to do. */
  least: number;
  /** Of one that is at work all the time: who waits for a batch would else wait for the processor. */
  most: number;
}

/** How much of what is known of the load is of the time since the last batch. */
const newest = 1 / 8;

export class Batcher<T> {
  readonly #most: number;
  readonly #pace: Pace;
  readonly #run: (batch: readonly T[]) => Promise<void> | void;
  #waiting: T[] = [];
  #running: Promise<void> | undefined;
  /** When the last batch began (`performance.now`), and whether it was of several. */
  #begun = 0;
  #crowded = false;
  /** The part of the time for which this process has been at work lately, from 0 to 1. */
  #work = 0;
  #timer: NodeJS.Timeout | undefined;
  #load = performance.eventLoopUtilization();

  /** `most` in a batch: what waits beyond it is in the next one. `run` does not throw. */
  constructor(most: number, pace: Pace, run: (batch: readonly T[]) => Promise<void> | void) {
    this.#most = most;
    this.#pace = pace;
    this.#run = run;
  }

  add(one: T): void {
    if (this.#waiting.push(one) === 1 && this.#running === undefined) this.#schedule();
  }

  /** Does all that waits, without a pause between batches. */
  async drain(): Promise<void> {
    while (this.#running !== undefined || this.#waiting.length > 0) {
      this.#begin();
      await this.#running;
    }
  }

  #schedule(): void {
    const { least, most } = this.#pace;
    const pace = least + (most - least) * this.#work;
    const wait = this.#crowded ? this.#begun + pace - performance.now() : 0;
    if (wait > 0) this.#timer = setTimeout(() => this.#begin(), wait);
    else setImmediate(() => this.#begin());
  }

  #begin(): void {
    if (this.#running !== undefined || this.#waiting.length === 0) return;
    clearTimeout(this.#timer);
    const batch = this.#waiting.splice(0, this.#most);
    this.#begun = performance.now();
    this.#measureWork();
    this.#running = Promise.resolve(this.#run(batch)).finally(() => {
      this.#running = undefined;
      this.#crowded = batch.length > 1 || this.#waiting.length > 0;
      if (this.#waiting.length > 0) this.#schedule();
    });
  }

  #measureWork(): void {
    const { utilization } = performance.eventLoopUtilization(this.#load);
    this.#load = performance.eventLoopUtilization();
    this.#work += newest * (utilization - this.#work);
  }
}
