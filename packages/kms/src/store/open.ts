// SPDX-License-Identifier: Apache-2.0
/** The store of a data directory, or of the database that it names. */
import { join } from "node:path";
import { dataFiles } from "../root-secret.ts";
import { sqlite } from "./sqlite.ts";
import { openStore, type Store, storeKeys } from "./store.ts";

/** PostgreSQL where `databases` names servers, otherwise the file in `data`. Throws KmsError `log/…`. */
export async function openLogStore(
  data: string,
  databases: readonly string[],
  secret: Uint8Array,
): Promise<Store> {
  const backend =
    databases.length > 0
      ? await (await import("./postgresql.ts")).postgresql(databases)
      : sqlite(join(data, dataFiles.releaseLog));
  return openStore(backend, storeKeys(secret));
}
