// SPDX-License-Identifier: Apache-2.0
/** The store of a data directory, or of the database that it names. */
import { join } from "node:path";
import { dataFiles } from "../root-secret.ts";
import { anchored } from "./anchored.ts";
import { sqlite } from "./sqlite.ts";
import { openStore, type Store, storeKeys } from "./store.ts";

/**
 * `checkpoint`: the data directory is on a persistent volume, and what is written there counts after it (anchored.ts).
 * PostgreSQL where `databases` names servers, otherwise the file in `data`. Throws KmsError `log/…`.
 */
export async function openLogStore(
  data: string,
  databases: readonly string[],
  secret: Uint8Array,
  checkpoint?: () => Promise<void>,
): Promise<Store> {
  if (databases.length > 0) {
    return openStore(await (await import("./postgresql.ts")).postgresql(databases), storeKeys(secret));
  }
  const file = sqlite(join(data, dataFiles.releaseLog));
  return openStore(checkpoint === undefined ? file : anchored(file, checkpoint), storeKeys(secret));
}
