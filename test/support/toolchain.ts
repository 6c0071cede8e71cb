// SPDX-License-Identifier: Apache-2.0
/** The pinned toolchain alone. Nothing else is built where it is in the cache already, whatever else has changed. */
import { readFile } from "node:fs/promises";
import { inGroup } from "@caisson/image/assemble";
import { cacheDirectory } from "@caisson/image/fetch";
import { parseLock } from "@caisson/image/lock";
import { cachedToolchain } from "@caisson/image/toolchain";

const lockFile = new URL("../../examples/hello/caisson.lock", import.meta.url).pathname;
const lock = parseLock(await readFile(lockFile, "utf8"), lockFile);
const cached = await cachedToolchain(inGroup(lock, "toolchain"), cacheDirectory(process.env));

export const toolchain = cached ?? (await import("./built.ts")).toolchain;
