// SPDX-License-Identifier: Apache-2.0
/** Whether KVM works here. That `/dev/kvm` can be opened is not enough: nested or restricted KVM may abort QEMU. */
import { accessSync, constants } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { end, exited, start } from "./child.ts";
import { type Accelerator, emulatedProcessor } from "./machine.ts";

/** A machine that runs for this long with a processor of KVM's runs at all. */
const trialMs = 1_500;

/** Tries a machine without disks for a moment, once a process. */
let found: Promise<Accelerator> | undefined;

export function accelerator(): Promise<Accelerator> {
  found ??= tryKvm();
  return found;
}

async function tryKvm(): Promise<Accelerator> {
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
  } catch {
    return "tcg";
  }
  const args = [
    "-nodefaults",
    "-display",
    "none",
    "-machine",
    "q35",
    "-accel",
    "kvm",
    "-cpu",
    emulatedProcessor("kvm"),
    "-m",
    "64M",
  ];
  const qemu = await start("qemu-system-x86_64", args, "qemu-system-x86", { stdio: "ignore" });
  const survived = await Promise.race([exited(qemu).then(() => false), sleep(trialMs, true)]);
  await end(qemu);
  return survived ? "kvm" : "tcg";
}
