/** Unpacks archives onto a disk, never outside the directory. */
import type { TarEntry } from "./tar.ts";

/**
 * Unpacks archives one after the other into `directory`, which is made and must not have existed. Everything belongs
 * to the caller; setuid, setgid and sticky bits are dropped. Errors: ImageError `archive/…`.
 */
export async function extract(archives: Iterable<AsyncIterable<TarEntry>>, directory: string): Promise<void> {
  throw new Error(`not written yet: ${directory} ${typeof archives}`);
}
