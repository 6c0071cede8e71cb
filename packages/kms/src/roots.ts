// SPDX-License-Identifier: Apache-2.0
/**
 * The roots from which applications' keys follow: the root secret, and those that rotations made after it.
 *
 * A rotation makes another root, says from when it may be used, and until when the one before may; in between both are in
 * force, and an application's policy says which is its own (`root`). Invariants: no application has other keys because
 * a day came, only because its policy says so, or none; a root that is not in force gives no key; each rotation is an entry of
 * the log, in the commit that makes the root.
 *
 * The KMS's identity, the sealing of its rows and volumes' keys follow from the first root for good. Later roots are rows
 * of the store, sealed under it: every replica has them, and who knows the first and reads the database knows all.
 */
import { createHash, randomBytes } from "node:crypto";
import { hex, type Infer, integer, list, nullable, object } from "@caisson/vocabulary/schema";
import { KmsError } from "./errors.ts";
import { ROOT_SECRET_SIZE } from "./root-secret.ts";
import { change, update } from "./store/change.ts";
import { changedEntry, type LogEntry } from "./store/entries.ts";
import { jsonOf, type Row } from "./store/rows.ts";
import type { RowChange, Store } from "./store/store.ts";

/** From when it may be used, and until when: milliseconds since 1970; null: until the next rotation says. */
const dates = {
  from: integer(0, Number.MAX_SAFE_INTEGER),
  until: nullable(integer(0, Number.MAX_SAFE_INTEGER)),
};
export const mostRoots = 64;
const rowSchema = list(object({ ...dates, secret: nullable(hex(ROOT_SECRET_SIZE)) }), 1, mostRoots);
/** In their order; the first has its secret elsewhere. */
type Stored = Infer<typeof rowSchema>;

/** A root as anybody may know it. */
export interface RootDates {
  /** 1 is the root secret itself. */
  number: number;
  from: number;
  until: number | null;
}

/** When a new root begins, and the one before it ends. */
export interface Rotation {
  from: number;
  until: number;
}

export type RootCode = "root/unknown" | "root/not-yet" | "root/retired";

export const rootsRow = { table: "roots", key: "list" } as const;
const begin: Stored = [{ from: 0, until: null, secret: null }];
const decode = (row: Row | undefined): Stored => (row === undefined ? begin : rowSchema(jsonOf(row)));
const shown = (stored: Stored): RootDates[] =>
  stored.map(({ from, until }, i) => ({ number: i + 1, from, until }));

const day = (ms: number): string => new Date(ms).toISOString();

/** The root that a rotation adds, and its entry. Throws KmsError "root/dates". */
export function rotate(
  row: Row | undefined,
  { from, until }: Rotation,
  now: number,
): { entry: LogEntry; row: RowChange; roots: RootDates[] } {
  const before = decode(row);
  const last = before.at(-1)!;
  if (from < now || until <= from || from < last.from || before.length === mostRoots) {
    throw new KmsError(
      "root/dates",
      `a new root begins at ${day(from)}, and root ${before.length}, of ${day(last.from)}, ends at ${day(until)}`,
      {
        fix: `begin after now and after the root before it, end later than that; ${mostRoots} roots at most`,
      },
    );
  }
  const secret = randomBytes(ROOT_SECRET_SIZE).toString("hex");
  const roots = [...before.slice(0, -1), { ...last, until }, { from, until: null, secret }];
  const value = new TextEncoder().encode(JSON.stringify(roots));
  const policy = createHash("sha256")
    .update(JSON.stringify(shown(roots)))
    .digest();
  const reason = `root/rotate ${roots.length} from ${day(from)}, ${before.length} until ${day(until)}`;
  return {
    entry: changedEntry(now, reason, { policy }),
    row: update(rootsRow, row, value),
    roots: shown(roots),
  };
}

/** Rotates beside a KMS that runs, or without it. Throws KmsError. */
export async function rotateRoot(store: Store, rotation: Rotation, now: number): Promise<RootDates[]> {
  let roots: RootDates[] = [];
  await change(store, [rootsRow], ([row]) => {
    const rotated = rotate(row, rotation, now);
    roots = rotated.roots;
    return { entry: rotated.entry, rows: [rotated.row] };
  });
  return roots;
}

/** The roots that a store has, and the version that the next rotation replaces. Throws KmsError. */
export async function readRoots(
  store: Pick<Store, "read">,
): Promise<{ version: number; roots: RootDates[] }> {
  const [row] = await store.read([rootsRow]);
  return { version: row?.version ?? 0, roots: shown(decode(row)) };
}

/** The roots of a KMS that runs. */
export class Roots {
  /** The root secret. */
  readonly first: Uint8Array;
  readonly #store: Pick<Store, "read">;
  #stored = begin;

  constructor(first: Uint8Array, store: Pick<Store, "read">) {
    this.first = first;
    this.#store = store;
  }

  /** Reads what rotations made. Throws KmsError. */
  async refresh(): Promise<void> {
    const [row] = await this.#store.read([rootsRow]);
    this.#stored = decode(row);
  }

  /** The secret of a root (32 bytes), or why it gives no key at `now` (ms). */
  at(number: number, now: number): Uint8Array | RootCode {
    const found = this.#stored[number - 1];
    if (found === undefined) return "root/unknown";
    if (now < found.from) return "root/not-yet";
    if (found.until !== null && now >= found.until) return "root/retired";
    return found.secret === null ? this.first : Uint8Array.fromHex(found.secret);
  }
}

/** A root's code in words. */
export const rootFaults: Record<RootCode, string> = {
  "root/unknown": "the policy names a root that this KMS does not have",
  "root/not-yet": "the root that the policy names is not in force yet",
  "root/retired":
    "the root that the policy names was in force until its rotation ended; the policy has to name a newer one",
};
