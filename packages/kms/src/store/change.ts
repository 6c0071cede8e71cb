// SPDX-License-Identifier: Apache-2.0
/** Reading rows, and changing what was read: decided anew where another process was faster. */
import { KmsError } from "../errors.ts";
import type { Row, RowName } from "./rows.ts";
import type { Commit, Committed, RowChange, Store } from "./store.ts";

/**
 * Rows with their places among `names`, of which `atOnce` are read together: what a database answers at once is bounded. Each
 * piece is of a moment of its own.
 */
export async function* readInPieces(
  store: Pick<Store, "read">,
  names: readonly RowName[],
  atOnce: number,
): AsyncGenerator<[place: number, row: Row | undefined]> {
  for (let i = 0; i < names.length; i += atOnce) {
    for (const [j, row] of (await store.read(names.slice(i, i + atOnce))).entries()) yield [i + j, row];
    // SQLite answers at once: others have their turn, too.
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** How often a change is decided anew because another came between. */
const tries = 100;

/**
 * Reads rows, lets `decide` say what becomes of them, and commits it: again where another process was faster, so that
 * `decide` may be called several times and does nothing but decide. Rows that it writes are among `names`; `update` says
 * what a row becomes. undefined commits nothing. Returns what the last `decide` returned. Throws KmsError `log/…`.
 */
export async function change<T extends Commit | undefined>(
  store: Store,
  names: readonly RowName[],
  decide: (rows: readonly (Row | undefined)[]) => T,
): Promise<{ committed: Exclude<Committed, "conflict"> | "nothing"; change: T }> {
  for (let i = 0; i < tries; i++) {
    const decided = decide(await store.read(names));
    if (decided === undefined) return { committed: "nothing", change: decided };
    const committed = await store.commit(decided);
    if (committed !== "conflict") return { committed, change: decided };
  }
  throw new KmsError("log/unavailable", `others changed ${names[0]?.table} ${tries} times meanwhile`);
}

/** The change that makes a row `value`, from what `read` said of it. */
export function update(name: RowName, row: Row | undefined, value: Uint8Array): RowChange {
  return { ...name, version: row?.version ?? 0, value };
}
