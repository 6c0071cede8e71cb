// SPDX-License-Identifier: Apache-2.0
/** What the host feeds the machine: kernel, command line, root, memory, devices. Nothing boots on with any of it. */
import { equal, match, notEqual, ok } from "node:assert/strict";
import { closeSync, copyFileSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { VmOptions } from "@caisson/host/vm";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { attack } from "../support/hostile.ts";
import { image, shape } from "../support/image.ts";

const scratch = temporaryDirectory("attack");

/** A copy of a file with one byte changed. */
function changed(file: string, offset: number): string {
  const path = join(scratch, `${Math.random()}`);
  copyFileSync(file, path);
  const handle = openSync(path, "r+");
  const byte = Buffer.alloc(1);
  readSync(handle, byte, 0, 1, offset);
  writeSync(handle, Buffer.of(byte[0]! ^ 1), 0, 1, offset);
  closeSync(handle);
  return path;
}

const commandLines: Record<string, (line: string) => string> = {
  "a token is added": (line) => line.replace(" ro ", " ro nokaslr "),
  "another program is PID 1's argument": (line) => `${line} --inspect`,
  "a token is dropped": (line) => line.replace(" random.trust_bootloader=off", ""),
};
for (const [name, change] of Object.entries(commandLines)) {
  test(`command line: ${name}`, async () => {
    const ending = await attack({
      machine: (options) => ({ ...options, commandLine: change(options.commandLine) }),
    });
    equal(ending.reason, "posture/command-line", ending.message);
    equal(ending.keyInMemory, false);
  });
}

test("another kernel: it boots, and the KMS sees that it is not the one", async () => {
  const { directory, manifest } = await image();
  // A byte of the 16-bit setup code (Documentation/arch/x86/boot.rst: its sectors are counted at 0x1f1), which nothing
  // executes when the firmware is UEFI.
  const file = join(directory, manifest.kernel.file);
  const offset = 0x1000;
  ok(offset < (readFileSync(file)[0x1f1]! + 1) * 512, "the setup code is too short: choose another byte");
  const ending = await attack({ machine: (options) => ({ ...options, kernel: changed(file, offset) }) });
  match(ending.reason, /^keys\/denied\/registers\//, ending.message);
  equal(ending.keyInMemory, false);
});

/** Bytes that every boot reads: the superblock, and the first block of the hash tree, which is its highest level. */
const rootOffsets: Record<string, (dataBlocks: number) => number> = {
  "in the file system": () => 1024,
  "in the hash tree": (dataBlocks) => dataBlocks * 4096,
};
for (const [where, offset] of Object.entries(rootOffsets)) {
  test(`one byte of the root image changed, ${where}: the kernel panics, and no stage ever runs`, async () => {
    const { directory, manifest } = await image();
    const { file, verity } = manifest.rootfs;
    const rootfs = changed(join(directory, file), offset(verity.dataBlocks));
    const ending = await attack({ machine: (options) => ({ ...options, rootfs }) });
    equal(ending.reason, "none");
    match(
      ending.console,
      /verity: .* block \d+ is corrupted\r?\n.*Kernel panic - not syncing: dm-verity device corrupted/,
    );
    equal(ending.measured.length, 0);
  });
}

test("another memory size than the reference", async () => {
  const ending = await attack({}, { ...shape, memory: shape.memory + 512 });
  match(ending.reason, /^keys\/denied\/registers\//, ending.message);
  equal(ending.keyInMemory, false);
});

const devices: Record<string, readonly string[]> = {
  "an e1000 card": ["-device", "e1000,romfile="],
  "a USB controller": ["-device", "qemu-xhci"],
  "shared memory": ["-object", "memory-backend-ram,id=m,size=1M", "-device", "ivshmem-plain,memdev=m"],
  "a virtio generator of random numbers": ["-device", "virtio-rng-pci"],
};
for (const [name, extraArguments] of Object.entries(devices)) {
  test(`an unknown device: ${name}`, async () => {
    const ending = await attack({ machine: (options: VmOptions) => ({ ...options, extraArguments }) });
    equal(ending.reason, "posture/pci-device", ending.message);
  });
}

test("no RDRAND: no boot", async () => {
  const ending = await attack({
    machine: (options) => ({ ...options, extraArguments: ["-cpu", "max,-rdrand"] }),
  });
  notEqual(ending.reason, "ready");
  match(ending.reason, /^(entropy\/no-rdrand|none)$/, ending.message);
  equal(ending.keyInMemory, false);
});

test("an instance document that is none", async () => {
  const garbage = new Uint8Array(512).fill(0x41);
  const ending = await attack({ machine: (options) => ({ ...options, instance: garbage }) });
  equal(ending.reason, "identity/instance", ending.message);
});
