// SPDX-License-Identifier: Apache-2.0
/**
 * What a KMS knows of applications that have an identity, and must not forget: the newest generation, the highest minimum,
 * what was revoked, the newest secrets.
 *
 * Invariants: what is known only rises; it is written in the same commit as the entry of the release that proved it, so
 * that replicas agree and keys never rest on what is not on disk. Where the KMS follows the application's log, the log
 * says it, and a KMS restored from an old copy learns it again; without a log it is a floor in the store, which whoever can
 * put an old copy of the whole store back can lower.
 */
import { emptyFloor, type Floor, type Followed, type Statement } from "@caisson/releases";
import { hex, integer, list, object, oneOf, optional, SchemaError } from "@caisson/vocabulary/schema";
import { KmsError } from "./errors.ts";
import { update } from "./store/change.ts";
import { jsonOf, type Row, type RowName } from "./store/rows.ts";
import type { RowChange, Store } from "./store/store.ts";

/** What is known of one application. */
export interface Known {
  floor: Floor;
  /** The newest set of secrets sealed to this KMS. */
  secrets?: { number: number; hash: string };
}

/** What a followed log says, at this moment. */
export interface FollowedApplication extends Known {
  followed: Followed;
  rebuilds: readonly Statement<"rebuild">[];
}

/** A log that is followed. */
export interface LogView {
  application(id: string): FollowedApplication;
}

/** What is known of an application in one request: of its row, and of the log. */
export interface KnownApplication {
  id: string;
  row: Row | undefined;
  known: Known & Partial<FollowedApplication>;
}

/** The newer generation; of one generation the document that the second knows. */
function newest(a: Floor, b: Floor): Pick<Floor, "generation" | "identity"> {
  const { generation, identity } = a.generation > b.generation ? a : b;
  const document = identity ?? (a.generation === b.generation ? a.identity : undefined);
  return { generation, ...(document !== undefined && { identity: document }) };
}

/** Both together: whichever is higher; of one generation that which the second knows. */
function highest(a: Known, b: Known): Known {
  const secrets = (a.secrets?.number ?? 0) >= (b.secrets?.number ?? 0) ? a.secrets : b.secrets;
  return {
    floor: {
      ...newest(a.floor, b.floor),
      minimum: Math.max(a.floor.minimum, b.floor.minimum),
      releases: new Set([...a.floor.releases, ...b.floor.releases]),
      generations: new Set([...a.floor.generations, ...b.floor.generations]),
    },
    ...(secrets !== undefined && { secrets }),
  };
}

const number = integer(0, 0xffff_ffff);
const schema = object({
  version: oneOf("caisson/known-application/v1"),
  generation: number,
  identity: optional(hex(32)),
  minimum: number,
  releases: list(number, 0, 1 << 20),
  generations: list(number, 0, 1 << 20),
  secrets: optional(object({ number, hash: hex(32) })),
});

const rising = (numbers: ReadonlySet<number>): number[] => [...numbers].sort((a, b) => a - b);

function write({ floor, secrets }: Known): Uint8Array {
  const document = {
    version: "caisson/known-application/v1",
    generation: floor.generation,
    ...(floor.identity !== undefined && { identity: floor.identity }),
    minimum: floor.minimum,
    releases: rising(floor.releases),
    generations: rising(floor.generations),
    ...(secrets !== undefined && { secrets }),
  };
  return new TextEncoder().encode(JSON.stringify(document));
}

/** Throws KmsError "log/rows" for what no KMS wrote. */
function read(row: Row | undefined): Known {
  if (row === undefined) return { floor: emptyFloor };
  try {
    const { secrets, ...found } = schema(jsonOf(row));
    const { releases, generations, version: _, ...rest } = found;
    const floor = { ...rest, releases: new Set(releases), generations: new Set(generations) };
    return { floor, ...(secrets !== undefined && { secrets }) };
  } catch (error) {
    if (!(error instanceof SchemaError || error instanceof SyntaxError)) throw error;
    throw new KmsError("log/rows", `a row of applications is not what a KMS wrote: ${error.message}`);
  }
}

const nameOf = (id: string): RowName => ({ table: "applications", key: id });

export class Applications {
  readonly #store: Pick<Store, "read">;
  readonly #log: LogView | undefined;

  constructor(store: Pick<Store, "read">, log?: LogView) {
    this.#store = store;
    this.#log = log;
  }

  /** What is known of the application (id in hex), from the store and from the log. Throws KmsError `log/…`. */
  async known(id: string): Promise<KnownApplication> {
    const [row] = await this.#store.read([nameOf(id)]);
    const stored = read(row);
    const followed = this.#log?.application(id);
    const known = followed === undefined ? stored : { ...followed, ...highest(stored, followed) };
    return { id, row, known };
  }
}

/** The row's change by what was just proved; where nothing is new, that the row is still what it was. */
export function learn({ id, row }: KnownApplication, proved: Known): RowChange {
  const value = write(highest(read(row), proved));
  const same = row !== undefined && Buffer.compare(row.value, value) === 0;
  return same ? { ...nameOf(id), version: row.version } : update(nameOf(id), row, value);
}
