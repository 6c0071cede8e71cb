/** Fetches files by hash into a content-addressed cache. */
import type { ArchiveName, Mirrors } from "./mirror.ts";

/** A file of the archive; a `LockedPackage` is one. */
export interface ArchiveFile {
  archive: ArchiveName;
  path: string;
  size: number;
  sha256: string;
}

export interface FetchProgress {
  /** Bytes of all files, of those already here, and per second over the last seconds. */
  totalBytes: number;
  doneBytes: number;
  bytesPerSecond: number;
  files: number;
  doneFiles: number;
}

export interface FetchOptions {
  mirrors: Mirrors;
  /** The cache directory; see `cacheDirectory`. */
  cache: string;
  /** Called at most a few times a second, and at the end. */
  onProgress?: (progress: FetchProgress) => void;
  signal?: AbortSignal;
}

/**
 * Makes sure that every file is in the cache and returns where: SHA-256 (hex) to absolute path. What is already there
 * is not fetched. Four at a time, resuming what an earlier run left.
 * Errors: ImageError `fetch/…`.
 */
export async function fetchAll(
  files: readonly ArchiveFile[],
  options: FetchOptions,
): Promise<Map<string, string>> {
  throw new Error(`not written yet: ${files.length} ${options.cache}`);
}
