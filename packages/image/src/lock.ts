/**
 * `caisson.lock`: exactly which files of the Debian archive and of npm an image is made from.
 *
 * Invariants: the text is a function of the value (sorted, fixed key order, two-space JSON, one final newline), so a
 * lock that says the same is the same file; nothing in it names a mirror, so any mirror can serve it; every file is
 * named by size and SHA-256, which the archive's signature covered when the lock was written.
 */
import type { ArchiveName } from "./mirror.ts";
import type { Group } from "./recipe.ts";

export interface LockedSuite {
  /** The name under `dists/`: "trixie", "trixie-security", … */
  name: string;
  archive: ArchiveName;
  /** SHA-256 of the InRelease file, hex. */
  inRelease: string;
  /** From the signed text, ISO 8601. */
  date: string;
  /** The index's own expiry, ISO 8601; a released stable suite has none. */
  validUntil?: string;
  /** Set when the index had expired and the spec's `archive.as_of` accepted it: the day it was judged by. */
  asOf?: string;
  /** Primary fingerprints, hex, of the trusted keys whose signature was verified. */
  signedBy: string[];
}

export interface LockedPackage {
  name: string;
  version: string;
  architecture: "amd64" | "all";
  /** Name of the suite (see `LockedSuite.name`) whose index listed it. */
  suite: string;
  archive: ArchiveName;
  /** Which parts of the build it is for. */
  groups: Group[];
  /** Path below the archive's base URI: "pool/main/…". */
  path: string;
  size: number;
  /** Hex. */
  sha256: string;
}

/** An npm package whose content enters the image; npm checks `integrity` when it installs. */
export interface LockedNpmPackage {
  name: string;
  version: string;
  /** Subresource integrity: "sha512-…". */
  integrity: string;
}

export interface Lock {
  version: 1;
  suites: LockedSuite[];
  packages: LockedPackage[];
  npm: LockedNpmPackage[];
}
