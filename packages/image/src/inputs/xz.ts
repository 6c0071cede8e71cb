// SPDX-License-Identifier: Apache-2.0
/**
 * Decompression with a bound: gzip, xz and zstd streams, stopped as soon as they give more than the caller allows.
 */

import { pipeline, Readable } from "node:stream";
import { ReadableStream } from "node:stream/web";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { messageOf } from "@caisson/vocabulary/failure";
import { xz } from "@napi-rs/lzma";
import { ImageError } from "../errors.ts";

export type Compression = "none" | "gzip" | "xz" | "zstd";

type Source = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

function decoded(source: Source, compression: Compression): Source {
  if (compression === "none") return source;
  if (compression === "xz") {
    // The type of the global ReadableStream (lib.dom) is asked for; it is the same class as node:stream/web's.
    const stream = xz.decompressStream(ReadableStream.from(source) as globalThis.ReadableStream<Uint8Array>);
    return stream as unknown as ReadableStream<Uint8Array>;
  }
  const decoder = compression === "gzip" ? createGunzip() : createZstdDecompress();
  // Errors of both reach the reader of `decoder`, so the callback has nothing to add.
  return pipeline(Readable.from(source, { objectMode: false }), decoder, () => {});
}

/**
 * The decompressed bytes of `source`, at most `limit` of them. `name` is what messages call it.
 * Errors: ImageError `archive/limit` when it holds more, `archive/format` when the stream is damaged or cut short.
 */
export async function* decompress(
  source: Source,
  compression: Compression,
  limit: number,
  name: string,
): AsyncGenerator<Uint8Array> {
  let total = 0;
  try {
    for await (const chunk of decoded(source, compression)) {
      total += chunk.length;
      if (total > limit) {
        throw new ImageError("archive/limit", `${name} holds more than ${limit} bytes when decompressed`);
      }
      yield chunk;
    }
  } catch (error) {
    if (error instanceof ImageError || compression === "none") throw error;
    throw new ImageError(
      "archive/format",
      `${name} is not a whole ${compression} stream: ${messageOf(error)}`,
      {
        cause: error,
      },
    );
  }
}
