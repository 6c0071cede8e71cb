// SPDX-License-Identifier: Apache-2.0
/** How long a step will still take, for a person: from how long its done part took. */

/** Before that much is done and has taken that long, any figure would be a guess. */
const leastShare = 0.02;
const leastSeconds = 5;

/** "about 6 min left"; nothing when there is nothing worth saying. */
export function timeLeft(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 1) return "";
  if (seconds < 90) return `about ${Math.ceil(seconds / 5) * 5} s left`;
  return `about ${Math.round(seconds / 60)} min left`;
}

export class Remaining {
  readonly #now: () => number;
  #step: string | undefined;
  #started = 0;
  #from = 0;

  /** `now` in milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** What is left of `step`, of which `done` of `total` is done. A new step begins anew, with what it has already. */
  left(step: string, done: number, total: number): string {
    if (step !== this.#step) {
      this.#step = step;
      this.#started = this.#now();
      this.#from = done;
    }
    const seconds = (this.#now() - this.#started) / 1000;
    const share = (done - this.#from) / (total - this.#from);
    if (share < leastShare || seconds < leastSeconds) return "";
    return timeLeft((seconds * (1 - share)) / share);
  }
}
