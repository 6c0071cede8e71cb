// SPDX-License-Identifier: Apache-2.0
/** The one error class of this package. */
import { Failure, type FailureDetails } from "@caisson/vocabulary/failure";

/** Codes, grouped by the file that throws them. */
export type ImageErrorCode =
  // spec.ts
  | "spec/unreadable"
  | "spec/compose-file"
  | "spec/syntax"
  | "spec/unknown-key"
  | "spec/value"
  // compose/
  | "compose/unreadable"
  | "compose/syntax"
  | "compose/refused"
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
  // npm-content.ts
  | "npm/altered"
  | "npm/unknown"
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
  | "oci/reference"
  | "oci/tag"
  | "oci/credentials"
  | "oci/registry"
  // identity.ts
  | "app/identity"
  // node-image.ts, native-addons.ts
  | "app/directory"
  | "app/addon"
  // erofs.ts, verity.ts
  | "erofs/name"
  | "erofs/mode"
  | "erofs/owner"
  | "erofs/size"
  | "erofs/links"
  | "erofs/changed"
  | "verity/size"
  // elf.ts, rootfs.ts, cmdline.ts, application.ts: what enters the image
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
  | "app/healthcheck"
  | "app/signal"
  | "app/file"
  | "app/front"
  | "app/mount"
  | "app/volume"
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
  // manifest.ts
  | "image/missing"
  | "image/manifest"
  // output.ts
  | "build/busy"
  | "build/occupied"
  | "build/disk";

export class ImageError extends Failure<ImageErrorCode> {
  override readonly name = "ImageError";
  /** `details.kind`: "input" (malformed input) when left out. */
  constructor(code: ImageErrorCode, message: string, details: FailureDetails = {}) {
    super(code, details.kind ?? "input", message, details);
  }
}
