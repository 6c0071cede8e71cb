// SPDX-License-Identifier: Apache-2.0
/**
 * The variable store inside a firmware image that carries code and variables in one file, as TDX firmware does.
 *
 * Debian's TDX firmware comes with Secure Boot switched on and other people's keys enrolled, and refuses a kernel that
 * they did not sign. What our machine starts is decided by measurement instead: RTMR1 holds the kernel, RTMR0 the
 * Secure Boot variables. So the image gets the same firmware with an empty store. The code is untouched, and with it
 * MRTD: the store is the configuration volume, which a TD measures at run time and not when it is built.
 *
 * Formats: UEFI Platform Initialization 1.8, volume 3, 3.2.1 (firmware volume header); edk2,
 * MdeModulePkg/Include/Guid/VariableFormat.h (VARIABLE_STORE_HEADER, authenticated variables).
 */
import { ImageError } from "../errors.ts";

const volumeSignature = 40;
const volumeHeaderLength = 48;
const storeHeaderSize = 28;
/** gEfiAuthenticatedVariableGuid, as it lies in memory. */
const authenticatedVariables = "782cf3aa7b949a43a1802e144ec37792";
const formatted = 0x5a;
const healthy = 0xfe;

/** The firmware with its variables erased. Errors: ImageError `firmware/variables` when there is no store in it. */
export function eraseVariables(firmware: Uint8Array): Uint8Array {
  const bytes = Buffer.from(firmware);
  const refuse = (reason: string) =>
    new ImageError("firmware/variables", `the TDX firmware's variable store cannot be erased: ${reason}`, {
      kind: "unsupported",
      fix: "lock another version of the firmware package",
    });
  if (bytes.length < 0x1000 || bytes.toString("latin1", volumeSignature, volumeSignature + 4) !== "_FVH") {
    throw refuse("the image does not start with a firmware volume");
  }
  const store = bytes.readUInt16LE(volumeHeaderLength);
  const variables = store + storeHeaderSize;
  if (variables > bytes.length || bytes.toString("hex", store, store + 16) !== authenticatedVariables) {
    throw refuse("its first volume is not one of authenticated variables");
  }
  const end = store + bytes.readUInt32LE(store + 16);
  if (end > bytes.length || end < variables)
    throw refuse("the store is larger than the image, or than itself");
  if (bytes[store + 20] !== formatted || bytes[store + 21] !== healthy)
    throw refuse("the store is not formatted");
  return bytes.fill(0xff, variables, end);
}
