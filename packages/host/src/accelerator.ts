// SPDX-License-Identifier: Apache-2.0
/** Whether KVM works here. That `/dev/kvm` can be opened is not enough: nested or restricted KVM may abort QEMU. */
import { accessSync, constants, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { end, exited, start } from "./child.ts";
import { type Accelerator, emulatedProcessor } from "./machine.ts";
import { kvmGaveUp } from "./vm.ts";

const usual = {
  /** A busy host may take this long to start QEMU; without a sign by then, it is not KVM that makes a machine fast here. */
  signMs: 20_000,
  /** A machine that runs on for this long after its first sign runs at all. */
  trialMs: 1_000,
  processors: "/proc/cpuinfo",
};

/** Tries a machine without disks for a moment, once a process. */
let found: Promise<Accelerator> | undefined;

export function accelerator(): Promise<Accelerator> {
  found ??= tryKvm("qemu-system-x86_64", "/dev/kvm");
  return found;
}

/**
 * Starts `program`, and takes the first byte that QEMU's own firmware writes to its debug port for the sign that a guest
 * runs: QEMU answers its monitor before KVM has taken the processor's registers. The time alone would say nothing, as a
 * loaded host may not have come to the point yet where it fails.
 */
export async function tryKvm(
  program: string,
  device: string,
  { signMs, trialMs, processors } = usual,
): Promise<Accelerator> {
  if (!isOpen(device) || !virtualizes(processors)) return "tcg";
  const machine = "-nodefaults -display none -machine q35 -accel kvm -m 64M";
  const sign = "-chardev stdio,id=sign -device isa-debugcon,iobase=0x402,chardev=sign";
  const args = [...`${machine} ${sign}`.split(" "), "-cpu", emulatedProcessor("kvm")];
  const qemu = await start(program, args, "qemu-system-x86", { stdio: ["ignore", "pipe", "pipe"] });
  const ended = Promise.race([exited(qemu), kvmGaveUp(qemu)]).then(() => false);
  const signed = new Promise<boolean>((resolve) => {
    qemu.stdout!.once("data", () => resolve(true)).resume();
  });
  const unref = { ref: false };
  const works =
    (await Promise.race([ended, signed, sleep(signMs, false, unref)])) &&
    (await Promise.race([ended, sleep(trialMs, true, unref)]));
  await end(qemu);
  return works ? "kvm" : "tcg";
}

function isOpen(device: string): boolean {
  try {
    accessSync(device, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Whether processors have what KVM makes fast machines of, VT-x or AMD-V, by their flags (`processors` is as in proc(5)).
 * A KVM without it runs guests that were made for it, and emulates of others what it knows how to: SeaBIOS, and not OVMF.
 */
const virtualizes = (processors: string): boolean =>
  /^flags\s*:.* (vmx|svm)( |$)/m.test(readFileSync(processors, "latin1"));
