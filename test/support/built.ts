// SPDX-License-Identifier: Apache-2.0
/**
 * What a build of the example leaves in the cache. Importing this builds it, so that toolchain, sources and kernels are
 * there whichever test of a run comes first.
 */
import { readFile } from "node:fs/promises";
import { inGroup } from "@caisson/image/assemble";
import { cacheDirectory, cachePath } from "@caisson/image/fetch";
import { parseLock } from "@caisson/image/lock";
import { cachedToolchain } from "@caisson/image/toolchain";
import { image } from "./image.ts";

await image();

const lockFile = new URL("../../examples/hello/caisson.lock", import.meta.url).pathname;

export const cache = cacheDirectory(process.env);
export const lock = parseLock(await readFile(lockFile, "utf8"), lockFile);

export const toolchain = (await cachedToolchain(inGroup(lock, "toolchain"), cache))!;

const { sha256 } = inGroup(lock, "source")[0]!;
/** The kernel's source package. */
export const source = { path: cachePath(cache, sha256), sha256 };
