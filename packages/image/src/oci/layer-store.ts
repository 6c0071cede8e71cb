// SPDX-License-Identifier: Apache-2.0
/**
 * Layers as files that stay: `CACHE/layers/<diff ID>` is the uncompressed archive. The files of an image are parts of
 * these, so that an image of any size is read, and read again by the next build, without being held in memory.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { ImageError } from "../errors.ts";
import { diskError } from "../inputs/fetch.ts";
import type { Chunks } from "./blobs.ts";

const hexOf = (digest: string): string => digest.slice("sha256:".length);

const bufferSize = 1 << 20;
let partNumber = 0;

/** Whether the file is there and hashes to its name. */
async function isWhole(path: string, diffId: string): Promise<boolean> {
  const hash = createHash("sha256");
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: bufferSize }))
      hash.update(chunk as Buffer);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
  return hash.digest("hex") === hexOf(diffId);
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

/**
 * The path of an unpacked layer; `unpack` gives its bytes when it is not there, or damaged. Throws what `unpack`
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
    if (await isWhole(path, diffId)) return path;
    await mkdir(directory, { recursive: true });
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
