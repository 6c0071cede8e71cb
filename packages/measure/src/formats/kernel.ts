// SPDX-License-Identifier: Apache-2.0
/**
 * What QEMU does to a Linux bzImage before the firmware measures it. Older QEMUs write load addresses into the
 * setup header ("The Linux/x86 Boot Protocol", hw/i386/x86-common.c), so that the kernel's digest depends on memory
 * size and initrd; newer ones serve the file as it is.
 */
import { Bytes } from "../bytes.ts";
import { MeasureError } from "../errors.ts";

const BOOT_PROTOCOL = 0x206;
const LOADED_HIGH = 0x01;
const CAN_USE_HEAP = 0x80;
const CAN_BE_LOADED_ABOVE_4G = 0x02; // xloadflags, XLF_CAN_BE_LOADED_ABOVE_4G

/**
 * A copy of `kernel` with the header fields that QEMU writes for a guest with `memory` bytes and, where there is one,
 * an initrd of `initrdSize` bytes. Throws MeasureError "kernel/malformed" for anything but a bzImage with protocol
 * 2.02 or newer ("kernel/truncated" if cut).
 */
export function patchSetupHeader(
  kernel: Uint8Array,
  memory: number,
  initrdSize: number | undefined,
): Uint8Array {
  const header = new Bytes(kernel, "kernel");
  const magic = header.u32(0x202);
  const protocol = header.u16(BOOT_PROTOCOL);
  if (magic !== 0x53726448 || protocol < 0x202) {
    throw new MeasureError("kernel/malformed", "not a bzImage with boot protocol 2.02 or newer", {
      offset: 0x202,
    });
  }
  header.slice(0x1f1, 0x238 - 0x1f1); // the whole header up to xloadflags has to be there
  const patched = kernel.slice();
  const view = new DataView(patched.buffer);
  const high = (header.u8(0x211) & LOADED_HIGH) !== 0;
  const real = high ? 0x10000 : 0x90000;
  const commandLine = high ? 0x20000 : 0x9a000;
  view.setUint8(0x210, 0xb0); // loader type: QEMU, version 0
  view.setUint8(0x211, header.u8(0x211) | CAN_USE_HEAP);
  view.setUint16(0x224, commandLine - real - 0x200, true);
  view.setUint32(0x228, commandLine, true);
  if (initrdSize !== undefined) {
    view.setUint32(0x218, initrdAddress(header, protocol, memory, initrdSize), true);
    view.setUint32(0x21c, initrdSize, true);
  }
  return patched;
}

/** What a bzImage says of its version ("6.12.48+deb13-amd64"), and its major × 100 + minor; undefined where it says none. */
export function kernelVersion(kernel: Uint8Array): { text: string; number: number } | undefined {
  if (kernel.length < 0x210) return undefined;
  const at = 0x200 + new Bytes(kernel, "kernel").u16(0x20e);
  const text = new TextDecoder("latin1").decode(kernel.subarray(at, at + 64));
  const match = /^((\d{1,3})\.(\d{1,3})[!-~]*)[ \0]/.exec(text);
  return match === null ? undefined : { text: match[1]!, number: 100 * Number(match[2]) + Number(match[3]) };
}

/**
 * Whether a kernel measures the initrd that it loads: its EFI stub, which is not compressed, says so when it has (Linux
 * 5.17 and newer). Without initrd support the words are not there.
 */
export function measuresInitrd(kernel: Uint8Array): boolean {
  return new TextDecoder("latin1").decode(kernel).includes("Measured initrd data");
}

/** As high as kernel and memory below 4 GiB allow, under 160 KiB that QEMU keeps for ACPI data. */
function initrdAddress(header: Bytes, protocol: number, memory: number, size: number): number {
  const low = memory < 0xb0000000 ? memory : 0x80000000;
  let max = 0x37ffffff;
  if (protocol >= 0x20c && (header.u16(0x236) & CAN_BE_LOADED_ABOVE_4G) !== 0) max = 0xffffffff;
  else if (protocol >= 0x203) max = header.u32(0x22c);
  max = Math.min(max, low - 0x28000 - 1);
  if (size > max) {
    throw new MeasureError("kernel/malformed", `an initrd of ${size} bytes does not fit below ${max}`);
  }
  return max - size - ((max - size) % 4096);
}
