// SPDX-License-Identifier: Apache-2.0
/**
 * Layers as files that stay: `CACHE/layers/<diff ID>` is the uncompressed archive. The files of an image are parts of
 * these, so that an image of any size is read, and read again by the next build, without being held in memory.
 *
 * What lies there is read once and hashed on the way. Only when something was wrong with it is the file judged by itself.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { ImageError } from "../errors.ts";
import { diskError } from "../inputs/fetch.ts";
import type { Chunks } from "./blobs.ts";

const hexOf = (digest: string): string => digest.slice("sha256:".length);

const bufferSize = 1 << 20;
let partNumber = 0;

const chunksOf = (path: string) => createReadStream(path, { highWaterMark: bufferSize });

/** The bytes of a stored layer; at their end they fail when they do not hash to the diff ID. */
export const readLayer = (path: string, diffId: string, name: string): AsyncGenerator<Uint8Array> =>
  checkDiffId(chunksOf(path) as Chunks, diffId, name);

/** Removes a stored layer that does not hash to its diff ID, so that it is unpacked again; false where it does. */
export async function removeDamaged(path: string, diffId: string): Promise<boolean> {
  const hash = createHash("sha256");
  for await (const chunk of chunksOf(path)) hash.update(chunk as Buffer);
  if (hash.digest("hex") === hexOf(diffId)) return false;
  await rm(path);
  return true;
}

/** Passes chunks on, and fails at their end when they do not hash to the diff ID. Throws ImageError `oci/digest`. */
export async function* checkDiffId(chunks: Chunks, diffId: string, name: string): AsyncGenerator<Uint8Array> {
  const hash = createHash("sha256");
  for await (const chunk of chunks) {
    hash.update(chunk);
    yield chunk;
  }
  if (hash.digest("hex") !== hexOf(diffId)) {
    throw new ImageError("oci/digest", `${name} unpacks to something else than its diff ID names`, {
      facts: [["expected", diffId]],
    });
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

/**
 * The path of an unpacked layer; `unpack` gives its bytes when it is not there. Throws what `unpack`
 * throws; ImageError `oci/digest`, `fetch/disk`.
 */
export async function storeLayer(
  directory: string,
  diffId: string,
  unpack: () => Promise<Chunks>,
  name: string,
): Promise<string> {
  const path = join(directory, hexOf(diffId));
  const part = `${path}.${process.pid}.${partNumber++}.part`;
  try {
    if (await isThere(path)) return path;
    makeDirectory(directory);
    const file = await open(part, "wx");
    try {
      for await (const chunk of checkDiffId(await unpack(), diffId, name)) await file.writeFile(chunk);
    } finally {
      await file.close();
    }
    await rename(part, path);
    return path;
  } catch (error) {
    throw diskError(error, directory) ?? error;
  } finally {
    await rm(part, { force: true });
  }
}
