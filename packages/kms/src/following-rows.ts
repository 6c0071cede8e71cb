// SPDX-License-Identifier: Apache-2.0
/**
 * What a KMS has read of a log, in its store: for a new process to go on from, and for its replicas.
 *
 * Invariant: what is read back is what one reading said, whole. One row has the tree, and the versions of the others,
 * which have the applications, those whose ids begin alike together; what differs from before is written with it in one
 * commit. So a log that grew costs the rows of what is new there, not of all applications. What is too much for one commit
 * is written in several, and the row has no tree before the last of them: whoever reads meanwhile reads the log instead.
 */
import { hash } from "node:crypto";
import { type Following, writeFollowing } from "@caisson/log";
import { type Application, type Checkpoint, readCheckpoint, readNote } from "@caisson/releases";
import { writeApplication } from "@caisson/releases/kept-application";
import { text as utf8 } from "@caisson/vocabulary/frame";
import { shardOf, shardsAtOnce } from "./policy-set.ts";
import { change, readInPieces, update } from "./store/change.ts";
import { changedEntry } from "./store/entries.ts";
import { jsonOf, type Row, type RowName, textOf } from "./store/rows.ts";
import type { RowChange, Store } from "./store/store.ts";

/** What of a log outlives the process. */
export interface FollowingStore {
  /** The newest checkpoint, a note. */
  readCheckpoint(): Promise<string | undefined>;
  /** Parsed JSON of `writeFollowing`, as of that checkpoint or an earlier one. */
  readFollowing(): Promise<unknown>;
  /** `what` names the tree, for the release log. */
  write(following: Following, what: string): Promise<void>;
}

const rowOf = (key: string): RowName => ({ table: "followed-log", key });
const rows = {
  checkpoint: rowOf("checkpoint"),
  tree: rowOf("tree"),
  shard: (name: string) => rowOf(`applications-${name}`),
};
/** How often what another replica writes meanwhile is read anew. */
const readings = 10;
/** Of applications in one commit, in characters: PostgreSQL ends a statement after five seconds. */
const mostAtOnce = 8 * 2 ** 20;

/** Applications whose ids begin alike: who is followed, and what was read of those that the log has. */
interface Shard {
  wanted: readonly string[];
  applications: readonly Application[];
}
const none: Shard = { wanted: [], applications: [] };

/** The row of the tree: `writeFollowing` without applications, and which rows have those. */
interface Tree {
  /** Whether all applications are followed. */
  all: boolean;
  /** Not there while rows of the same reading are still to be written. */
  following?: object;
  shards: Record<string, { version: number; digest: string }>;
}

export const checkpointOf = (note: string): Checkpoint => readCheckpoint(readNote(note).text);

/**
 * In a KMS's store; each checkpoint that is larger has an entry in the release log. `most`: characters of applications in
 * one commit, which has one row of them at least.
 */
export function followingRows(store: Store, now: () => number, most = mostAtOnce): FollowingStore {
  /** Of applications, each of which is another object after each of its documents, and of shards. */
  const digests = new WeakMap<Application | Shard, string>();
  const digestOf = <T extends Application | Shard>(what: T, written: (what: T) => unknown): string => {
    const digest = digests.get(what) ?? hash("sha256", JSON.stringify(written(what)));
    digests.set(what, digest);
    return digest;
  };
  const applicationDigest = (one: Application): string => digestOf(one, writeApplication);
  const shardDigest = (shard: Shard): string =>
    digestOf(shard, ({ wanted, applications }) => [wanted, applications.map(applicationDigest)]);
  /** Rows that are not as `before` says, as many as are written at once, and what is said of all then. */
  const changedShards = (before: Tree["shards"], shards: ReadonlyMap<string, Shard>) => {
    const after = { ...before };
    const changed: RowChange[] = [];
    let length = 0;
    for (const name of new Set([...Object.keys(before), ...shards.keys()])) {
      const shard = shards.get(name) ?? none;
      const { version, digest } = before[name] ?? { version: 0, digest: "" };
      const other = shardDigest(shard);
      if (other === digest) continue;
      if (length >= most) return { changed, after, isPart: true };
      after[name] = { version: version + 1, digest: other };
      const { wanted, applications } = shard;
      const value = JSON.stringify({ wanted, applications: applications.map(writeApplication) });
      // Of the version that the row of the tree says, which is compared, too.
      changed.push({ ...rows.shard(name), version, value: utf8(value) });
      length += value.length;
    }
    return { changed, after, isPart: false };
  };
  const readShards = async ({ shards }: Tree): Promise<Record<keyof Shard, unknown[]>[] | undefined> => {
    const names = Object.keys(shards);
    const found: Record<keyof Shard, unknown[]>[] = [];
    for await (const [i, row] of readInPieces(store, names.map(rows.shard), shardsAtOnce)) {
      if (row?.version !== shards[names[i]!]!.version) return undefined;
      found.push(jsonOf(row)!);
    }
    return found;
  };
  return {
    async readCheckpoint() {
      const [row] = await store.read([rows.checkpoint]);
      return row && textOf(row);
    },
    async readFollowing() {
      for (let i = 0; i < readings; i++) {
        const tree = jsonOf<Tree>((await store.read([rows.tree]))[0]);
        if (tree?.following === undefined) return undefined;
        const shards = await readShards(tree);
        if (shards === undefined) continue;
        return {
          ...tree.following,
          wanted: tree.all ? null : shards.flatMap(({ wanted }) => wanted),
          applications: shards.flatMap(({ applications }) => applications),
        };
      }
      // Whoever has nothing reads the log from its beginning.
      return undefined;
    },
    async write(read, what) {
      const shards = shardsOf(read);
      const following = writeFollowing({ ...read, wanted: undefined, applications: new Map() });
      const next = ([newest, row]: readonly (Row | undefined)[]) => {
        // Another replica has read further meanwhile.
        const size = newest === undefined ? 0 : checkpointOf(textOf(newest)).size;
        if (size > read.checkpoint.size) return undefined;
        const { changed, after, isPart } = changedShards(jsonOf<Tree>(row)?.shards ?? {}, shards);
        const tree: Tree = { all: read.wanted === undefined, ...(!isPart && { following }), shards: after };
        return {
          entry: changedEntry(now(), (isPart ? `a part of ${what}` : what).slice(0, 1000)),
          rows: [
            update(rows.checkpoint, newest, utf8(read.note)),
            update(rows.tree, row, utf8(JSON.stringify(tree))),
            ...changed,
          ],
          isPart,
        };
      };
      let written: ReturnType<typeof next>;
      do ({ change: written } = await change(store, [rows.checkpoint, rows.tree], next));
      while (written?.isPart);
    },
  };
}

/** In one order, so that the same is the same at every replica. */
function shardsOf({ wanted, applications }: Following): Map<string, Shard> {
  const ids = [...(wanted ?? applications.keys())].sort();
  return new Map(
    Map.groupBy(ids, shardOf)
      .entries()
      .map(([name, some]) => [
        name,
        {
          wanted: wanted === undefined ? [] : some,
          applications: some.flatMap((id) => applications.get(id) ?? []),
        },
      ]),
  );
}
