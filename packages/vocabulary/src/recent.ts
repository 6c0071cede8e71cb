// SPDX-License-Identifier: Apache-2.0
/** A bounded map; the entry that was not used for longest goes first. */
export class Recent<V> {
  readonly #entries = new Map<string, V>();
  readonly #most: number;

  /** `most`: entries that are kept. */
  constructor(most = 64) {
    this.#most = most;
  }

  get(key: string): V | undefined {
    const value = this.#entries.get(key);
    if (value !== undefined) this.set(key, value);
    return value;
  }

  set(key: string, value: V): void {
    this.#entries.delete(key);
    this.#entries.set(key, value);
    if (this.#entries.size > this.#most) this.#entries.delete(this.#entries.keys().next().value!);
  }
}
