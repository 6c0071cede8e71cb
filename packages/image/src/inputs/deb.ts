// SPDX-License-Identifier: Apache-2.0
/** Reads Debian packages: deb(5). No maintainer script is ever run, so the control archive is not even opened. */
import { openAsBlob } from "node:fs";
import { basename } from "node:path";
import { ImageError } from "../errors.ts";
import { readTar, type TarEntry } from "../oci/tar.ts";
import { readAr } from "./ar.ts";
import { type Compression, decompress } from "./xz.ts";

const compressions: Record<string, Compression> = { "": "none", ".gz": "gzip", ".xz": "xz", ".zst": "zstd" };
const maximumUnpacked = 4 * 2 ** 30;

/**
 * The files of a Debian package, in archive order; `source` is a path or the bytes, `name` what messages call it.
 * Errors: ImageError `archive/…`; those in parts that were not reached are not found.
 */
export async function* readDeb(
  source: string | Uint8Array,
  name: string = typeof source === "string" ? basename(source) : "the package",
): AsyncGenerator<TarEntry> {
  const blob = typeof source === "string" ? await openAsBlob(source) : new Blob([source as BlobPart]);
  const [version, control, data, ...rest] = await readAr(blob, name);
  const format =
    version?.name === "debian-binary"
      ? Buffer.from(await version.content.arrayBuffer()).toString("latin1")
      : "";
  const compression = /^data\.tar(\.gz|\.xz|\.zst|)$/.exec(data?.name ?? "")?.[1];
  if (
    !/^2\.\d+\n/.test(format) ||
    control?.name.startsWith("control.tar") !== true ||
    compression === undefined ||
    rest.length > 0
  ) {
    throw new ImageError("archive/format", `${name} is not a Debian package of format 2`);
  }
  const bytes = data!.content.stream() as unknown as AsyncIterable<Uint8Array>;
  yield* readTar(decompress(bytes, compressions[compression]!, maximumUnpacked, name), name);
}
