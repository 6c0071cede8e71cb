// SPDX-License-Identifier: Apache-2.0
/** The bytes of a file of an image, wherever they are until the image is written. */
import { createHash, hash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";
import { ImageError } from "../errors.ts";
import type { Content, FileContent } from "./tree.ts";

const chunkSize = 1 << 20;
/** Layers and files that are read in turn; more open descriptors would not help. */
const maximumOpen = 16;

export const sizeOf = (content: Content): number =>
  content instanceof Uint8Array ? content.length : content.size;

/** Files of the host that stay open while content after content is read from them. */
export class HostFiles implements Disposable {
  readonly #open = new Map<string, number>();

  /** A descriptor for reading; valid until other files are asked for. */
  descriptor(path: string): number {
    const known = this.#open.get(path);
    if (known !== undefined) return known;
    if (this.#open.size >= maximumOpen) this[Symbol.dispose]();
    const file = openSync(path, "r");
    this.#open.set(path, file);
    return file;
  }

  [Symbol.dispose](): void {
    for (const file of this.#open.values()) closeSync(file);
    this.#open.clear();
  }
}

function changed(path: string): ImageError {
  return new ImageError("erofs/changed", `${path} changed during the build`, {
    fix: "run the build again",
  });
}

/**
 * The content, a chunk at a time, each valid until the next is asked for. What lies on the host has to have the length
 * it had when it became part of the tree and, where one is known, that SHA-256. Throws ImageError `erofs/changed`.
 */
export function* chunksOf(
  content: Content,
  files: HostFiles,
  expected = content instanceof Uint8Array ? undefined : content.sha256,
): Generator<Buffer, void> {
  if (content instanceof Uint8Array) {
    yield Buffer.from(content.buffer, content.byteOffset, content.byteLength);
    return;
  }
  const { path, size, offset } = content;
  const start = offset ?? 0;
  const sum = expected === undefined ? undefined : createHash("sha256");
  const buffer = Buffer.alloc(Math.min(chunkSize, size));
  for (let done = 0; done < size; ) {
    const wanted = Math.min(buffer.length, size - done);
    const got = readSync(files.descriptor(path), buffer, 0, wanted, start + done);
    if (got !== wanted) throw changed(path);
    const chunk = buffer.subarray(0, got);
    sum?.update(chunk);
    done += got;
    yield chunk;
  }
  const isLonger = offset === undefined && hasMore(content, files);
  if (isLonger || sum?.digest("hex") !== expected) throw changed(path);
}

const hasMore = ({ path, size }: FileContent, files: HostFiles): boolean =>
  readSync(files.descriptor(path), Buffer.alloc(1), 0, 1, size) !== 0;

/** All bytes of a content. Throws ImageError `erofs/changed`. */
export function bytesOf(content: Content): Uint8Array {
  if (content instanceof Uint8Array) return content;
  using files = new HostFiles();
  const bytes = Buffer.alloc(content.size);
  let at = 0;
  for (const chunk of chunksOf(content, files)) at += chunk.copy(bytes, at);
  return bytes;
}

/** SHA-256 of a content, lower-case hex. */
export function digest(content: Content, files?: HostFiles): string {
  if (content instanceof Uint8Array) return hash("sha256", content, "hex");
  if (content.sha256 !== undefined) return content.sha256;
  using own = files === undefined ? new HostFiles() : undefined;
  const sum = createHash("sha256");
  for (const chunk of chunksOf(content, files ?? own!)) sum.update(chunk);
  return sum.digest("hex");
}
