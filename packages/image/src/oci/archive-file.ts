// SPDX-License-Identifier: Apache-2.0
/** The files of an uncompressed tar archive, where they lie in it: what tools save images into. */
import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { posix } from "node:path";
import { ImageError } from "../errors.ts";
import type { Blob } from "./blobs.ts";
import { maximumDocument } from "./documents.ts";
import { type TarItem, tarItems } from "./tar-format.ts";
import { decodePath, pathParts } from "./tar-path.ts";

type Member = { offset: number; size: number } | { target: string };

const maximumMembers = 10_000;
const maximumHops = 8;

const magics: readonly [name: string, bytes: readonly number[], unpack: string][] = [
  ["gzip", [0x1f, 0x8b], "gunzip"],
  ["zstd", [0x28, 0xb5, 0x2f, 0xfd], "unzstd"],
  ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a], "unxz"],
];

async function refuseCompressed(path: string): Promise<void> {
  const file = await open(path);
  try {
    const head = Buffer.alloc(8);
    await file.read(head, 0, head.length, 0);
    for (const [name, bytes, unpack] of magics) {
      if (!bytes.every((byte, i) => head[i] === byte)) continue;
      throw new ImageError("oci/layout", `${path} is compressed with ${name}`, { fix: `${unpack} it first` });
    }
  } finally {
    await file.close();
  }
}

/** How an archive is made that is an image. */
export const howToSave = "docker save, podman save, or skopeo copy … oci-archive:FILE";

/** What is in the archive. What is none from its first block on is said as that: somebody named another file. */
async function* savedItems(stream: AsyncIterable<Uint8Array>, path: string): AsyncGenerator<TarItem> {
  let begun = false;
  try {
    for await (const item of tarItems(stream, "tolerant", path)) {
      begun = true;
      yield item;
    }
  } catch (error) {
    if (begun) throw error;
    throw new ImageError("oci/layout", `${path} is not a tar archive, as saved images are`, {
      fix: howToSave,
      cause: error,
    });
  }
}

export class ArchiveFile {
  readonly path: string;
  readonly #members: ReadonlyMap<string, Member>;

  private constructor(path: string, members: ReadonlyMap<string, Member>) {
    this.path = path;
    this.#members = members;
  }

  /** Reads the headers of an archive. Throws ImageError `archive/…`, `oci/layout`. */
  static async open(path: string): Promise<ArchiveFile> {
    await refuseCompressed(path);
    const members = new Map<string, Member>();
    const stream = createReadStream(path, { highWaterMark: 1 << 20 });
    for await (const { type, path: bytes, link, offset, size } of savedItems(stream, path)) {
      const name = pathParts(decodePath(bytes, path), path).join("/");
      if (members.size >= maximumMembers) {
        throw new ImageError(
          "archive/limit",
          `${path} has more than ${maximumMembers} files: it is not an image`,
        );
      }
      if (type === "0" || type === "\0") members.set(name, { offset, size });
      // Docker linked layers that are the same: by path from the link, or, a hard link, from the archive's root.
      else if (type === "2") {
        members.set(name, { target: posix.join(posix.dirname(name), decodePath(link, path)) });
      } else if (type === "1") members.set(name, { target: posix.normalize(decodePath(link, path)) });
    }
    return new ArchiveFile(path, members);
  }

  has(name: string): boolean {
    return this.#members.has(name);
  }

  /** The file of a name, links followed. Throws ImageError `oci/layout`. */
  file(name: string): Blob & { size: number } {
    let member = this.#members.get(posix.normalize(name));
    for (let hops = 0; member !== undefined && "target" in member && hops < maximumHops; hops++)
      member = this.#members.get(member.target);
    if (member === undefined || "target" in member)
      throw new ImageError("oci/layout", `${this.path} lacks the file '${name}'`);
    const { offset, size } = member;
    const { path } = this;
    const chunks =
      size === 0
        ? []
        : createReadStream(path, { start: offset, end: offset + size - 1, highWaterMark: 1 << 20 });
    return { chunks, place: { path, offset }, size };
  }

  /** The bytes of a small file. Throws ImageError `oci/layout`. */
  async document(name: string): Promise<Buffer> {
    const { chunks, size } = this.file(name);
    if (size > maximumDocument)
      throw new ImageError("oci/layout", `${this.path}: '${name}' has more than ${maximumDocument} bytes`);
    return Buffer.concat(await Array.fromAsync(chunks));
  }
}
