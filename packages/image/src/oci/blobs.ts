// SPDX-License-Identifier: Apache-2.0
/** Blobs of an image, checked against what names them. */
import { createHash } from "node:crypto";
import { ImageError } from "../errors.ts";
import { type Descriptor, maximumDocument } from "./documents.ts";

export type Chunks = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

export interface Blob {
  /** The bytes; not trusted. */
  chunks: Chunks;
  /** Where the same bytes lie on the host and stay: what is stored uncompressed need not be copied. */
  place?: { path: string; offset: number };
}

/** Where blobs come from: a layout directory, an archive, a registry, or memory. */
export type OpenBlob = (descriptor: Descriptor) => Promise<Blob>;

/** Passes a blob through, and fails at its end (or as soon as it is too long) when it is not the named one. */
export async function* verified({ digest, size }: Descriptor, chunks: Chunks): AsyncGenerator<Uint8Array> {
  const hash = createHash("sha256");
  let seen = 0;
  for await (const chunk of chunks) {
    seen += chunk.length;
    if (seen > size) break;
    hash.update(chunk);
    yield chunk;
  }
  const found = `sha256:${hash.digest("hex")}`;
  if (seen !== size || found !== digest) {
    throw new ImageError("oci/digest", `the blob ${digest} is not what its digest and size name`, {
      facts:
        seen === size
          ? [["found", found]]
          : [
              ["bytes", `${seen > size ? "more than " : ""}${Math.min(seen, size)}`],
              ["expected", String(size)],
            ],
    });
  }
}

/** The text of a small document. Throws ImageError `oci/digest`. */
export async function readDocument(descriptor: Descriptor, open: OpenBlob): Promise<string> {
  if (descriptor.size > maximumDocument) {
    throw new ImageError(
      "oci/digest",
      `the document ${descriptor.digest} has ${descriptor.size} bytes, more than ${maximumDocument}`,
    );
  }
  const { chunks } = await open(descriptor);
  return Buffer.concat(await Array.fromAsync(verified(descriptor, chunks))).toString("utf8");
}
