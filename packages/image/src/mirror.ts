/** Where the Debian archive is: `--mirror`, `CAISSON_MIRROR`, or the machine's apt configuration. */

/** Debian's two archives: security updates live under a base URI of their own. */
export type ArchiveName = "debian" | "debian-security";

/** Base URI of each archive, without a trailing slash. */
export type Mirrors = Readonly<Record<ArchiveName, string>>;
