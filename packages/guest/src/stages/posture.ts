// SPDX-License-Identifier: Apache-2.0
/**
 * Is this machine what the image was made for? Everything here is read from the live kernel, and the first thing
 * that differs stops the boot: an exact command line, the TSC as the only clock, only known PCI devices with modern
 * split-ring virtio, the verity root, lockdown, and the sysctls of `packages/guest/src/sysctls.ts`.
 */

import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { splitCommandLine } from "@caisson/protocol/command-line";
import { provesHardware } from "@caisson/vocabulary/platforms";
import { type Context, type Stage, StageFailure } from "../stage.ts";
import { sysctlsFor } from "../sysctls.ts";

const read = (path: string): string => readFileSync(path, "utf8").trim();
const list = (path: string): string[] => (existsSync(path) ? readdirSync(path).sort() : []);

function demand(condition: boolean, reason: string, message: string): asserts condition {
  if (!condition) throw new StageFailure(`posture/${reason}`, message);
}

/** What the root's dm-verity table may look like: constant geometry, lower-case SHA-256, panic on corruption. */
const rootTable =
  /^dm-mod\.create="root,,,ro,0 \d+ verity 1 \/dev\/vda \/dev\/vda 4096 4096 \d+ \d+ sha256 [0-9a-f]{64} [0-9a-f]{2,64} 1 panic_on_corruption"$/;

/** Throws unless the live command line is the measured one, token by token: nothing added, dropped or repeated. */
export function checkCommandLine(live: string, expected: readonly string[]): void {
  // Beyond ASCII, JavaScript and the kernel differ in what separates tokens.
  demand(/^[ -~]*\n?$/.test(live), "command-line", "it has characters other than printable ASCII");
  const found = splitCommandLine(live);
  for (let i = 0; i < Math.max(found.length, expected.length); i++) {
    const want = expected[i];
    const have = found[i];
    const same = want === "dm-mod.create=" ? have !== undefined && rootTable.test(have) : have === want;
    demand(
      same,
      "command-line",
      `token ${i + 1} is '${have ?? "missing"}', expected '${want ?? "nothing more"}'`,
    );
  }
}

/**
 * PCI functions that QEMU's q35 brings by itself and those the image has drivers for, by vendor:device.
 * 8086:2922 (AHCI) and 8086:2930 (SMBus) have no driver in this kernel.
 */
const knownPci = new Map([
  ["8086:29c0", "q35 host bridge"],
  ["8086:2918", "ICH9 LPC bridge"],
  ["8086:2922", "ICH9 AHCI"],
  ["8086:2930", "ICH9 SMBus"],
  ["1af4:1041", "virtio-net"],
  ["1af4:1042", "virtio-blk"],
]);

function checkDevices(root: string): string {
  const pci = join(root, "sys/bus/pci/devices");
  const functions = list(pci);
  for (const address of functions) {
    const [vendor, device] = ["vendor", "device"].map((name) => read(join(pci, address, name)));
    const id = `${vendor}:${device}`.replaceAll("0x", "");
    demand(knownPci.has(id), "pci-device", `unknown PCI device ${id} at ${address}`);
  }
  const virtio = join(root, "sys/bus/virtio/devices");
  for (const device of list(virtio)) {
    // A string of '0' and '1', feature bit 0 first (drivers/virtio/virtio.c, features_show).
    const features = read(join(virtio, device, "features"));
    demand(
      features[32] === "1",
      "virtio-legacy",
      `${device} is not a modern virtio device (VIRTIO_F_VERSION_1)`,
    );
    demand(
      features[34] !== "1",
      "virtio-packed",
      `${device} offers packed rings, which this image does not accept`,
    );
  }
  // Nothing that appears later gets a driver.
  for (const bus of ["pci", "virtio"]) writeFileSync(join(root, "sys/bus", bus, "drivers_autoprobe"), "0");
  return `${functions.length} PCI functions`;
}

/** The kernel keeps `tsc-early` until it has refined its calibration, about a second after PID 1 starts. */
const calibrationLimitMs = 10_000;

async function checkClock(root: string, flavour: string): Promise<void> {
  const directory = join(root, "sys/devices/system/clocksource/clocksource0");
  const limit = performance.now() + calibrationLimitMs;
  let current = read(`${directory}/current_clocksource`);
  while (current === "tsc-early" && performance.now() < limit) {
    await sleep(100);
    current = read(`${directory}/current_clocksource`);
  }
  demand(current === "tsc", "clock-source", `the clock source is '${current}', expected tsc`);
  // Without CPUID's frequency leaf (plain QEMU) the TSC is calibrated against the PM timer, in development only.
  const allowed = flavour === "development" ? ["tsc", "acpi_pm"] : ["tsc"];
  const extra = read(`${directory}/available_clocksource`)
    .split(/\s+/)
    .filter((name) => !allowed.includes(name));
  demand(extra.length === 0, "clock-source", `other clock sources are available: ${extra.join(", ")}`);
}

function checkRoot(root: string): void {
  const mounts = read(join(root, "proc/mounts"))
    .split("\n")
    .map((line) => line.split(" "));
  const own = mounts.find(([, at]) => at === "/");
  demand(own?.[2] === "erofs" && own[3]!.split(",").includes("ro"), "root", `the root is ${own?.join(" ")}`);
  const foreign = mounts.find(([device, at]) => device!.startsWith("/dev/") && at !== "/");
  demand(foreign === undefined, "mount", `a block device is mounted at ${foreign?.[1]}`);
  const lockdown = read(join(root, "sys/kernel/security/lockdown"));
  demand(lockdown.includes("[confidentiality]"), "lockdown", `kernel lockdown is '${lockdown}'`);
}

function applySysctls(root: string): void {
  const settings = join(root, "proc/sys");
  for (const { key, value } of sysctlsFor(list(join(settings, "net/ipv4/conf")))) {
    const path = join(settings, key.replaceAll(".", "/"));
    // A knob that the kernel was built without cannot be turned by anyone.
    if (!existsSync(path)) continue;
    if (read(path) !== value) writeFileSync(path, value);
    demand(read(path) === value, "sysctl", `${key} is ${read(path)}, expected ${value}`);
  }
}

function checkTrustedDomain(root: string, { config, platform }: Context): void {
  const registers = existsSync(join(root, "sys/devices/virtual/misc/tdx_guest/measurements"));
  if (config.flavour === "production") {
    demand(
      /\btdx_guest\b/.test(read(join(root, "proc/cpuinfo"))),
      "no-tee",
      "this CPU is not a TDX guest's: a production image runs nowhere else",
    );
    demand(provesHardware[platform.name], "no-ccel", "the firmware left no CCEL event log");
  }
  demand(
    registers,
    "no-registers",
    "the kernel offers no measurement registers (is a TPM attached, and does its log replay?)",
  );
}

/** `root`: where the kernel's file systems lie, "/" but in a test. */
export function postureStage(root: string): Stage {
  return {
    name: "posture",
    limitMs: 60_000,
    async run(context) {
      checkCommandLine(readFileSync(join(root, "proc/cmdline"), "utf8"), context.config.commandLine);
      checkTrustedDomain(root, context);
      applySysctls(root);
      await checkClock(root, context.config.flavour);
      const devices = checkDevices(root);
      checkRoot(root);
      await context.measure("system-preparing", new Uint8Array());
      return `${context.platform.name}, clock tsc, ${devices}`;
    },
  };
}
