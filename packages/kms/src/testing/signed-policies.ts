// SPDX-License-Identifier: Apache-2.0
/** Policies that operators signed, a million of them in a minute: rows as requests leave them (operators.ts), without any. */
import { text as utf8 } from "@caisson/vocabulary/frame";
import { operatorRows } from "../operators.ts";
import { shardOf } from "../policy-set.ts";
import { changedEntry } from "../store/entries.ts";
import { bucketOf, type RowName } from "../store/rows.ts";
import type { Store } from "../store/store.ts";

/** Rows in one transaction. */
const rowsAtOnce = 1000;

/**
 * Puts a policy for each of these applications (ids in hex) into a store that has none: `textOf` gives its file.
 */
export async function writeSignedPolicies(
  store: Store,
  apps: readonly string[],
  textOf: (app: string) => string,
): Promise<void> {
  // Those of one bucket together, so that each bucket is written once.
  const inOrder = apps
    .map((app) => ({ app, bucket: bucketOf(operatorRows.policy(app)) }))
    .sort((one, other) => one.bucket - other.bucket);
  for (let i = 0; i < inOrder.length; i += rowsAtOnce) {
    const some = inOrder.slice(i, i + rowsAtOnce);
    await write(
      store,
      some.map(({ app }) => [operatorRows.policy(app), textOf(app)] as const),
    );
  }
  const shards = Map.groupBy(apps, shardOf);
  for (const [shard, members] of shards) {
    const versions = Object.fromEntries(members.map((app) => [app, 1]));
    await write(store, [[operatorRows.shard(shard), JSON.stringify(versions)]]);
  }
  const index = Object.fromEntries([...shards.keys()].map((shard) => [shard, 1]));
  await write(store, [[operatorRows.index, JSON.stringify(index)]]);
}

async function write(store: Store, rows: readonly (readonly [RowName, string])[]): Promise<void> {
  await store.commit({
    entry: changedEntry(Date.now(), "policy/set"),
    rows: rows.map(([name, text]) => ({ ...name, version: 0, value: utf8(text) })),
  });
}
