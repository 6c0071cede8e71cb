// SPDX-License-Identifier: Apache-2.0
/**
 * The log that a KMS follows: read to its end every minute and at SIGHUP, so that a minimum, a revocation or new secrets
 * count soon after they are logged, whatever a guest's host brings.
 *
 * Invariants: until the log was read once nothing is known of it, and then every view is too old; a log that cannot be
 * read keeps its last view, which ages until keys stop; a log that shows another history than before changes nothing.
 * What was last read is remembered, so that a new process cannot be shown another history either.
 */
import { type Following, followLog, type LogSource } from "@caisson/log";
import {
  type Checkpoint,
  readCheckpoint,
  readNote,
  readTrustPolicy,
  type TrustPolicy,
  verifyCheckpoint,
} from "@caisson/releases";
import { messageOf } from "@caisson/vocabulary/failure";
import type { FollowedApplication, LogView } from "./applications.ts";
import type { LogEntry } from "./store/entries.ts";
import { change, type Store, update } from "./store/store.ts";

/** Where a log is read, and whom the operator believes of it. */
export interface LogToFollow {
  source: LogSource;
  policy: TrustPolicy;
}

/** What of a log outlives the process: its newest checkpoint, a note. */
export interface CheckpointStore {
  readCheckpoint(): Promise<string | undefined>;
  /** `what` names the tree, for the release log. */
  writeCheckpoint(note: string, what: string): Promise<void>;
}

/** The newest checkpoint in the KMS's store; each that is larger has an entry in the release log. */
export function checkpointRow(store: Store, now: () => number): CheckpointStore {
  const name = { table: "followed-log", key: "checkpoint" };
  const none = new Uint8Array();
  return {
    async readCheckpoint() {
      const [row] = await store.read([name]);
      return row && new TextDecoder().decode(row.value);
    },
    async writeCheckpoint(note, what) {
      const about = { time: now(), app: none, instance: none, registers: none, policy: none };
      const entry: LogEntry = { ...about, outcome: "changed", reason: what.slice(0, 1000) };
      const value = new TextEncoder().encode(note);
      await change(store, [name], ([row]) => ({ entry, rows: [update(name, row, value)] }));
    },
  };
}

const everyMs = 60_000;

export class FollowedLog implements LogView {
  readonly #log: LogToFollow;
  readonly #kms: string;
  readonly #store: CheckpointStore;
  readonly #now: () => number;
  readonly #say: (event: string, fields: Record<string, string | number>) => void;
  #following: Following | undefined;
  #applications = new Map<string, FollowedApplication>();
  #reading: Promise<boolean> | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** `kms`: this KMS's identity (hex), whose secrets count. */
  constructor(
    log: LogToFollow,
    kms: string,
    store: CheckpointStore,
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

  /** Reads every minute from now on. */
  start(): void {
    this.#timer = setInterval(() => void this.update(), everyMs).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Reads to the end; false where that failed, and the last view stays. */
  update(): Promise<boolean> {
    this.#reading ??= this.#update().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #update(): Promise<boolean> {
    const { source, policy } = this.#log;
    try {
      const remembered = await this.#store.readCheckpoint();
      const known: Checkpoint | undefined =
        remembered === undefined ? undefined : readCheckpoint(readNote(remembered).text);
      const following = await followLog(source, policy, {
        now: this.#now(),
        ...(this.#following !== undefined && { before: this.#following }),
        ...(known !== undefined && { known }),
      });
      const { origin, root } = following.checkpoint;
      // Only a tree that grew: that it was seen again is not remembered.
      if (following.checkpoint.size !== known?.size) {
        const what = `followed ${origin}: ${following.checkpoint.size} entries, ${root.toHex()}`;
        await this.#store.writeCheckpoint(following.note, what);
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
  for (const [id, { identity, floor, releases, rebuilds, secrets }] of applications) {
    const { log } = identity.document;
    let seen: number | undefined = 0;
    if (log !== null) {
      try {
        ({ seen } = await verifyCheckpoint(readNote(note), readTrustPolicy(log.policy), now));
      } catch {
        // Not the log that its owners named, or too few of their witnesses: no view is as old as this one.
      }
    }
    const own = secrets.get(kms);
    views.set(id, {
      floor,
      followed: { releases, seen },
      rebuilds,
      ...(own !== undefined && { secrets: own }),
    });
  }
  return views;
}
