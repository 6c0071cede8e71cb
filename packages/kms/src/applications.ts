// SPDX-License-Identifier: Apache-2.0
/**
 * What a KMS knows of applications that have an identity, and must not forget: the newest generation, the highest minimum,
 * what was revoked, the newest secrets.
 *
 * Invariants: what is known only rises; it is on disk before keys leave that rest on it. Where the KMS follows the
 * application's log, the log says it, and a KMS restored from an old copy learns it again; without a log it is a floor in
 * the store, which whoever can put an old copy of the store back can lower.
 */
import { emptyFloor, type Floor, type Followed, type Statement } from "@caisson/releases";

/** What is known of one application. */
export interface Known {
  floor: Floor;
  /** The newest set of secrets sealed to this KMS. */
  secrets?: { number: number; hash: string };
}

/** What outlives the process. */
export interface KnownStore {
  readKnown(): Map<string, Known>;
  /** Resolves when it is on disk. */
  writeKnown(app: string, known: Known): Promise<void>;
}

/** What a followed log says, at this moment. */
export interface FollowedApplication extends Known {
  followed: Followed;
  rebuilds: readonly Statement<"rebuild">[];
}

/** A log that is followed; undefined for applications that it does not tell of. */
export interface LogView {
  application(id: string): FollowedApplication | undefined;
}

export const nothingKnown: Known = { floor: emptyFloor };

/** Both together: whichever is higher. */
export function highest(a: Known, b: Known): Known {
  const secrets = (a.secrets?.number ?? 0) >= (b.secrets?.number ?? 0) ? a.secrets : b.secrets;
  return {
    floor: {
      generation: Math.max(a.floor.generation, b.floor.generation),
      minimum: Math.max(a.floor.minimum, b.floor.minimum),
      releases: new Set([...a.floor.releases, ...b.floor.releases]),
      generations: new Set([...a.floor.generations, ...b.floor.generations]),
    },
    ...(secrets !== undefined && { secrets }),
  };
}

const text = (known: Known): string =>
  JSON.stringify([
    known.floor.generation,
    known.floor.minimum,
    [...known.floor.releases].sort((x, y) => x - y),
    [...known.floor.generations].sort((x, y) => x - y),
    known.secrets?.number,
    known.secrets?.hash,
  ]);

export class Applications {
  readonly #store: KnownStore;
  readonly #known: Map<string, Known>;
  readonly #log: LogView | undefined;

  constructor(store: KnownStore, log?: LogView) {
    this.#store = store;
    this.#known = store.readKnown();
    this.#log = log;
  }

  /** What is known of the application (id in hex), from the store and from the log. */
  known(id: string): Known & Partial<FollowedApplication> {
    const stored = this.#known.get(id) ?? nothingKnown;
    const followed = this.#log?.application(id);
    if (followed === undefined) return stored;
    return { ...followed, ...highest(stored, followed) };
  }

  /** Whether a log is followed that tells of it. */
  follows(id: string): boolean {
    return this.#log?.application(id) !== undefined;
  }

  /** Adds what was just proved. Resolves when it is on disk; throws what the store throws. */
  async learn(id: string, proved: Known): Promise<void> {
    const before = this.#known.get(id) ?? nothingKnown;
    const after = highest(before, proved);
    if (text(after) === text(before)) return;
    this.#known.set(id, after);
    await this.#store.writeKnown(id, after);
  }
}
