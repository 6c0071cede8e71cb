/** Reads tar archives (ustar, pax, GNU long names) that may be hostile, as a stream. */

interface TarEntryBase {
  /** Clean relative path: no leading `/` or `./`, no `.` or `..` component, no trailing `/`. */
  path: string;
  /** Permission bits including setuid, setgid and sticky (0o7777); what unpacks decides what to keep. */
  mode: number;
  uid: number;
  gid: number;
  /** Names and values of pax `SCHILY.xattr.*` records. */
  xattrs: ReadonlyMap<string, string>;
}

export type TarEntry = TarEntryBase &
  (
    | { kind: "file"; content: Uint8Array }
    | { kind: "directory" }
    | { kind: "symlink"; target: string }
    /** `target` is the clean path of an earlier regular file of the same archive. */
    | { kind: "hardlink"; target: string }
  );
