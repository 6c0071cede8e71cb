/** Reads Debian packages: deb(5). */
import type { TarEntry } from "./tar.ts";

/**
 * The files of a Debian package, in archive order; `source` is a path or the bytes. Stream: stop whenever enough was
 * read. The whole package is checked only when read to the end.
 * Errors: ImageError `archive/…`.
 */
export async function* readDeb(source: string | Uint8Array): AsyncGenerator<TarEntry> {
  throw new Error(`not written yet: ${typeof source}`);
}
