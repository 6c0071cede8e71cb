// SPDX-License-Identifier: Apache-2.0
/**
 * A database on a persistent volume: what was written counts once the volume's keeper has anchored it (docs/state.md).
 *
 * Invariant: nothing that was written is answered for, or shown, before a checkpoint that covers it was acknowledged. A
 * checkpoint that fails leaves what was written where it is, and whoever looks next waits for another one.
 */
import { messageOf } from "@caisson/vocabulary/failure";
import { KmsError } from "../errors.ts";
import type { Backend, Changes, Seen, Wanted } from "./backend.ts";

class Anchored implements Backend {
  readonly name: string;
  readonly #inner: Backend;
  readonly #checkpoint: () => Promise<void>;
  /** How many writes there were, and how many of them a checkpoint covers. */
  #written = 0;
  #anchored = 0;
  #running: Promise<void> | undefined;

  constructor(inner: Backend, checkpoint: () => Promise<void>) {
    this.name = inner.name;
    this.#inner = inner;
    this.#checkpoint = checkpoint;
  }

  async look(wanted: Wanted): Promise<Seen> {
    const seen = await this.#inner.look(wanted);
    await this.#settled();
    return seen;
  }

  async write(wanted: Wanted, decide: (seen: Seen) => Changes | undefined): Promise<void> {
    await this.#inner.write(wanted, (seen) => {
      const changes = decide(seen);
      // Before it happens: others see it from its commit on, which follows in the same turn (sqlite.ts): a checkpoint
      // that begins in another one has it on the volume.
      if (changes !== undefined) this.#written += 1;
      return changes;
    });
    await this.#settled();
  }

  async close(): Promise<void> {
    await this.#running?.catch(() => {});
    await this.#inner.close();
  }

  /** Everything that was written until now is anchored. Throws KmsError "log/unavailable". */
  async #settled(): Promise<void> {
    const wanted = this.#written;
    while (this.#anchored < wanted) {
      this.#running ??= this.#anchor().finally(() => {
        this.#running = undefined;
      });
      await this.#running;
    }
  }

  async #anchor(): Promise<void> {
    const covered = this.#written;
    try {
      await this.#checkpoint();
    } catch (error) {
      throw new KmsError("log/unavailable", `${this.name} is not anchored: ${messageOf(error)}`);
    }
    this.#anchored = covered;
  }
}

/** `checkpoint` resolves once everything that was written before is kept, whatever the volume's host does. */
export const anchored = (inner: Backend, checkpoint: () => Promise<void>): Backend =>
  new Anchored(inner, checkpoint);
