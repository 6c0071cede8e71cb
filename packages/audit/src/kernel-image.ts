// SPDX-License-Identifier: Apache-2.0
/**
 * What a bzImage says about itself: its release and the configuration it was built with.
 *
 * The audit judges the kernel that boots, not a file beside it: the configuration is taken out of the compressed
 * kernel (CONFIG_IKCONFIG, kernel/configs.c), which the firmware measures as a whole.
 * Format: Linux Documentation/arch/x86/boot.rst. Only zstd payloads (CONFIG_KERNEL_ZSTD) are read.
 */

import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { messageOf } from "@caisson/vocabulary/failure";
import { AuditError } from "./errors.ts";
import { type KernelConfig, parseKernelConfig } from "./kernel-config.ts";

export interface KernelImage {
  /** "7.3.4", as in `uname -r` up to the first space. */
  release: string;
  config: KernelConfig;
}

const payloadLimit = 128 * 1024 * 1024;
const configLimit = 4 * 1024 * 1024;

/** Throws AuditError `image/kernel` when this is not an x86 bzImage with a zstd payload and a built-in configuration. */
export function readKernelImage(bytes: Buffer): KernelImage {
  const bad = (why: string) => new AuditError("image/kernel", `this kernel cannot be audited: ${why}`);
  if (bytes.length < 0x260 || bytes.toString("latin1", 0x202, 0x206) !== "HdrS")
    throw bad("it is not a bzImage");
  const setupSize = ((bytes[0x1f1] || 4) + 1) * 512;

  const versionAt = bytes.readUInt16LE(0x20e) + 0x200;
  const versionEnd = bytes.indexOf(0, versionAt);
  if (versionEnd < 0 || versionEnd - versionAt > 256) throw bad("its version string has no end");
  const release = bytes.toString("latin1", versionAt, versionEnd).split(" ")[0]!;

  const start = setupSize + bytes.readUInt32LE(0x248);
  // The last four bytes of the payload are its unpacked size, for the decompressor in front of it.
  const end = start + bytes.readUInt32LE(0x24c) - 4;
  if (end > bytes.length || end <= start) throw bad("its payload lies outside the file");
  let kernel: Buffer;
  try {
    kernel = zstdDecompressSync(bytes.subarray(start, end), { maxOutputLength: payloadLimit });
  } catch (error) {
    throw bad(`its payload is not a zstd stream (${messageOf(error)})`);
  }

  const begin = kernel.indexOf("IKCFG_ST");
  const stop = kernel.indexOf("IKCFG_ED", begin);
  if (begin < 0 || stop < 0) throw bad("it was built without CONFIG_IKCONFIG");
  try {
    const text = gunzipSync(kernel.subarray(begin + 8, stop), { maxOutputLength: configLimit });
    return { release, config: parseKernelConfig(text.toString("utf8")) };
  } catch (error) {
    if (error instanceof AuditError) throw error;
    throw bad(`its configuration does not unpack (${messageOf(error)})`);
  }
}
