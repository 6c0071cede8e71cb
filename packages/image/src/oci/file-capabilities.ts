// SPDX-License-Identifier: Apache-2.0
/**
 * Capabilities of files, as layers carry them: `security.capability` (struct vfs_cap_data,
 * include/uapi/linux/capability.h).
 */
import { capabilitiesOf } from "@caisson/vocabulary/capabilities";

/** Bytes by revision; the third ends with the user whose root they hold for. */
const sizes = new Map([
  [1, 12],
  [2, 20],
  [3, 24],
]);

/** Those that are permitted, without CAP_. None when the value is not of a known form: it is dropped in any case. */
export function fileCapabilities(value: Uint8Array): string[] {
  const view = new DataView(value.buffer, value.byteOffset, value.length);
  if (value.length < 4 || sizes.get(view.getUint8(3)) !== value.length) return [];
  const low = BigInt(view.getUint32(4, true));
  const high = value.length === 12 ? 0n : BigInt(view.getUint32(12, true));
  return capabilitiesOf((high << 32n) | low);
}
