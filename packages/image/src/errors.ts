/**
 * The one error class of this package. `code` is stable and documented by its `area/reason`; the message names what
 * failed and where; `facts` are labelled values (found, expected); `fix` says what to do.
 */

/** One line per area; an area is the file (or the pair of files) that throws it. */
export type ImageErrorCode =
  // spec.ts
  | "spec/unreadable"
  | "spec/syntax"
  | "spec/unknown-key"
  | "spec/value"
  // mirror.ts, archive.ts, resolve.ts, lock.ts: from the archive's signature to the lock
  | "lock/no-mirror"
  | "lock/keyring"
  | "lock/signature"
  | "lock/untrusted-key"
  | "lock/expired"
  | "lock/future"
  | "lock/older"
  | "lock/wrong-suite"
  | "lock/index"
  | "lock/version"
  | "lock/missing-package"
  | "lock/unsatisfiable"
  | "lock/conflict"
  | "lock/npm"
  | "lock/unreadable"
  | "lock/unwritable"
  | "lock/stale"
  // fetch.ts
  | "fetch/unreachable"
  | "fetch/gone"
  | "fetch/status"
  | "fetch/size"
  | "fetch/hash"
  | "fetch/disk"
  // ar.ts, deb.ts, tar.ts, xz.ts, extract.ts: archives that may be hostile
  | "archive/truncated"
  | "archive/format"
  | "archive/limit"
  | "archive/path"
  | "archive/link"
  | "archive/type"
  | "archive/duplicate"
  | "archive/disk"
  // oci.ts
  | "oci/layout"
  | "oci/digest"
  | "oci/media-type"
  | "oci/platform"
  | "oci/config"
  | "oci/layer"
  | "oci/capability"
  | "oci/registry"
  // node-image.ts
  | "app/directory"
  // erofs.ts, verity.ts
  | "erofs/name"
  | "erofs/mode"
  | "erofs/size"
  | "erofs/links"
  | "erofs/changed"
  | "verity/size"
  // elf.ts, rootfs.ts, cmdline.ts: what enters the image
  | "elf/format"
  | "root/missing-file"
  | "root/missing-library"
  | "root/unneeded-library"
  | "root/executable"
  | "root/hardening"
  | "root/node"
  | "root/bundle"
  | "cmdline/length"
  | "app/program"
  | "app/user"
  // toolchain.ts, kernel.ts
  | "toolchain/namespace"
  | "toolchain/altered"
  | "toolchain/failed"
  | "kernel/source"
  | "kernel/fragment"
  | "kernel/dropped"
  | "kernel/resolved"
  // variable-store.ts
  | "firmware/variables"
  // output.ts
  | "build/busy"
  | "build/occupied"
  | "build/disk";

export type ImageErrorKind = "rejected" | "unsupported" | "input" | "usage" | "internal";

export interface ImageErrorDetails {
  /** Decides the exit code; "input" (malformed input) when left out. */
  kind?: ImageErrorKind;
  facts?: readonly (readonly [label: string, value: string])[];
  fix?: string;
  cause?: unknown;
}

export class ImageError extends Error {
  readonly code: ImageErrorCode;
  readonly kind: ImageErrorKind;
  readonly facts: readonly (readonly [label: string, value: string])[];
  readonly fix: string | undefined;

  constructor(code: ImageErrorCode, message: string, details: ImageErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "ImageError";
    this.code = code;
    this.kind = details.kind ?? "input";
    this.facts = details.facts ?? [];
    this.fix = details.fix;
  }
}
