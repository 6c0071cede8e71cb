// SPDX-License-Identifier: Apache-2.0
/**
 * The log that a KMS follows: read to its end every minute and at SIGHUP, so that a minimum, a revocation or new secrets
 * count soon after they are logged, whatever a guest's host brings.
 *
 * Invariants: until the log was read once nothing is known of it, and then every view is too old; a log that cannot be
 * read keeps its last view, which ages until keys stop; a log that shows another history than before changes nothing.
 * What was last read is remembered, so that a new process cannot be shown another history either, and goes on from there.
 */

import { setTimeout } from "node:timers/promises";
import { type Following, followLog, type LogSource, readFollowing, type Wanted } from "@caisson/log";
import { readNote, readTrustPolicy, type TrustPolicy, verifyCheckpoint } from "@caisson/releases";
import { messageOf } from "@caisson/vocabulary/failure";
import type { FollowedApplication, LogView } from "./applications.ts";
import { checkpointOf, type FollowingStore } from "./following-rows.ts";

/** Where a log is read, and whom the operator believes of it. */
export interface LogToFollow {
  source: LogSource;
  policy: TrustPolicy;
}

/** Whether two choices of applications are the same. */
const isSame = (one: Wanted, other: Wanted): boolean =>
  one === undefined || other === undefined ? one === other : one.size === other.size && one.isSubsetOf(other);

const everyMs = 60_000;

export class FollowedLog implements LogView {
  readonly #log: LogToFollow;
  readonly #kms: string;
  readonly #store: FollowingStore;
  readonly #now: () => number;
  readonly #say: (event: string, fields: Record<string, string | number>) => void;
  #following: Following | undefined;
  #wanted: Wanted;
  #applications = new Map<string, FollowedApplication>();
  #reading: Promise<boolean> | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** `kms`: this KMS's identity (hex), whose secrets count. */
  constructor(
    log: LogToFollow,
    kms: string,
    store: FollowingStore,
    now: () => number,
    say: (event: string, fields: Record<string, string | number>) => void,
  ) {
    this.#log = log;
    this.#kms = kms;
    this.#store = store;
    this.#now = now;
    this.#say = say;
  }

  application(id: string): FollowedApplication {
    return this.#applications.get(id) ?? unread;
  }

  /** Follows these applications alone from the next reading on; whether there are new ones among them. */
  want(ids: ReadonlySet<string>): boolean {
    const grows = [...ids].some((id) => this.#wanted?.has(id) !== true);
    this.#wanted = ids;
    return grows;
  }

  /** Reads every minute from now on. */
  start(): void {
    this.#timer = setInterval(() => void this.update(), everyMs).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /**
   * Reads to the end, and waits for that so long at most: whoever serves a log slowly must not hold up what does not need
   * it. False where the end was not reached; the reading goes on.
   */
  async updateWithin(limitMs: number): Promise<boolean> {
    const late = new AbortController();
    const limit = setTimeout(limitMs, false, { signal: late.signal, ref: false }).catch(() => false);
    try {
      return await Promise.race([this.update(), limit]);
    } finally {
      late.abort();
    }
  }

  /** Reads to the end; false where that failed, and the last view stays. */
  update(): Promise<boolean> {
    this.#reading ??= this.#update().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  /** What a process before this one has read. Where it is of no use the log is read from its beginning. */
  async #kept(): Promise<Following | undefined> {
    const kept = await this.#store.readFollowing();
    if (kept === undefined) return undefined;
    try {
      return await readFollowing(kept, this.#log.policy, this.#now());
    } catch (error) {
      this.#say("log-read-again", { message: messageOf(error) });
      return undefined;
    }
  }

  async #update(): Promise<boolean> {
    const { source, policy } = this.#log;
    try {
      const remembered = await this.#store.readCheckpoint();
      const known = remembered === undefined ? undefined : checkpointOf(remembered);
      const before = this.#following ?? (await this.#kept());
      const following = await followLog(source, policy, {
        now: this.#now(),
        wanted: this.#wanted,
        ...(before !== undefined && { before }),
        ...(known !== undefined && { known }),
      });
      const { origin, root } = following.checkpoint;
      // Only a tree that grew, or another choice of applications, or what nobody kept whole: that it was seen again is not
      // remembered.
      const isKept = before !== undefined && isSame(following.wanted, before.wanted);
      if (following.checkpoint.size !== known?.size || !isKept) {
        const what = `followed ${origin}: ${following.checkpoint.size} entries, ${root.toHex()}`;
        await this.#store.write(following, what);
      }
      this.#applications = await viewOf(following, this.#kms, this.#now());
      this.#following = following;
      const { size } = following.checkpoint;
      this.#say("log-followed", { entries: size, applications: this.#applications.size });
      return true;
    } catch (error) {
      const { code = "internal" } = error as { code?: string };
      this.#say("log-not-followed", { code, message: messageOf(error) });
      return false;
    }
  }
}

/** Nothing was read yet: no view is as old. */
const unread: FollowedApplication = {
  floor: { generation: 0, minimum: 0, releases: new Set(), generations: new Set() },
  followed: { releases: new Map(), seen: 0 },
  rebuilds: [],
};

/** What the log says of each application, in a view that the application's own policy believes. */
async function viewOf(
  { applications, note }: Following,
  kms: string,
  now: number,
): Promise<Map<string, FollowedApplication>> {
  const views = new Map<string, FollowedApplication>();
  /** By the policy's text, which many applications have in common. */
  const times = new Map<string, number | undefined>();
  for (const [id, { identity, floor, releases, rebuilds, secrets }] of applications) {
    const { log } = identity.document;
    if (log !== null && !times.has(log.policy)) times.set(log.policy, await seenBy(log.policy, note, now));
    const own = secrets.get(kms);
    views.set(id, {
      floor,
      followed: { releases, seen: log === null ? 0 : times.get(log.policy) },
      rebuilds,
      ...(own !== undefined && { secrets: own }),
    });
  }
  return views;
}

/** When those whom a policy believes saw the tree; undefined where it asks for nobody. */
async function seenBy(policy: string, note: string, now: number): Promise<number | undefined> {
  try {
    return (await verifyCheckpoint(readNote(note), readTrustPolicy(policy), now)).seen;
  } catch {
    // Not the log that an application's owners named, or too few of their witnesses: no view is as old as this one.
    return 0;
  }
}
