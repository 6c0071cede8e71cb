// SPDX-License-Identifier: Apache-2.0
/** A directory that keeps collateral. Files are written whole or not at all. */
import { open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { CollateralError } from "./errors.ts";
import type { CollateralStore } from "./kept.ts";

const MAX_FILE = 4 << 20;

export function directoryStore(directory: string): CollateralStore {
  const place = (name: string): string => {
    if (!/^[a-z0-9-]+(?:\/[a-z0-9-]+)*$/.test(name)) throw new RangeError(`no name of collateral: ${name}`);
    return join(directory, `${name}.json`);
  };
  return {
    async read(name) {
      try {
        const text = await readFile(place(name), "utf8");
        return text.length <= MAX_FILE ? text : undefined;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
        throw storeError(directory, error);
      }
    },
    async write(name, text) {
      const path = place(name);
      const temporary = `${path}.${process.pid}.tmp`;
      try {
        makeDirectory(dirname(path));
        const file = await open(temporary, "w");
        try {
          await file.writeFile(text);
          await file.sync();
        } finally {
          await file.close();
        }
        await rename(temporary, path);
      } catch (error) {
        await rm(temporary, { force: true }).catch(() => {});
        throw storeError(directory, error);
      }
    },
  };
}

function storeError(directory: string, error: unknown): CollateralError {
  return new CollateralError(
    "collateral/store",
    "unavailable",
    `collateral cannot be kept in ${directory}: ${reasonOf(error)}`,
    {
      fix: "make room there, or name another place: --cache DIR",
      cause: error,
    },
  );
}
