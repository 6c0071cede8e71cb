// SPDX-License-Identifier: Apache-2.0
/**
 * What a guest can ask of the machine it runs on. One interface, so that stages and the application's API do not
 * know which hardware is beneath them.
 */

import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Platform, PlatformTable } from "@caisson/vocabulary/platforms";

/** The name of the driver behind configfs-tsm's reports. The emulation driver is measured, and offers the real one's. */
export const reportProviders: PlatformTable<string> = { tdx: "tdx_guest", emulated: "tdx_guest" };

/** Where the kernel keeps each platform's measured-boot log: the CCEL table's area, or the TPM's log. */
export const bootLogPaths = (root: string): PlatformTable<string> => ({
  tdx: join(root, "sys/firmware/acpi/tables/data/CCEL"),
  emulated: join(root, "sys/kernel/security/tpm0/binary_bios_measurements"),
});

/** The platform beneath: a TD has the CCEL area; without it, what the emulation driver offers. */
export function platformOf(bootLogs: PlatformTable<string>): Platform {
  return existsSync(bootLogs.tdx) ? "tdx" : "emulated";
}

export interface PlatformAdapter {
  readonly name: Platform;
  /** RTMR3 = SHA-384(RTMR3 ‖ digest); `digest` is 48 bytes. */
  extend(digest: Uint8Array): Promise<void>;
  /** A quote over 64 bytes of report data. */
  quote(reportData: Uint8Array): Promise<Uint8Array>;
  /** The measured-boot log that firmware and kernel wrote (CCEL, or the TPM's log when emulated). */
  bootLog(): Promise<Uint8Array>;
}
