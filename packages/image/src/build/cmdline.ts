// SPDX-License-Identifier: Apache-2.0
/**
 * The kernel command line, as data: every token with its reason. It is measured (PCR 9, RTMR2), it roots the file
 * system, and PID 1 compares the live one with it token by token.
 *
 * Invariants: one spelling per image; no bare word that the kernel does not know, because it hands unknown words to
 * PID 1 as arguments (init/main.c, unknown_bootoption): `no-kvmclock` (KVM_GUEST=n) is left out for that reason. Tokens
 * with a value that this kernel was built without (`vsyscall=`, `pci=nommconf`) stay, in case a later one is not.
 * Nothing here weakens a mitigation or opens an early console.
 */

import { diskPath } from "@caisson/vocabulary/disks";
import type { Flavour } from "@caisson/vocabulary/flavours";
import { ImageError } from "../errors.ts";
import { verityBlockSize, veritySalt } from "../output/verity.ts";
import { initArguments } from "./init-arguments.ts";
import type { KernelVariant } from "./kernel-config.ts";

export interface Token {
  token: string;
  why: string;
}

/** Stands for the token whose value is the verity root: `tokens` cannot know it. */
const rootTable = "dm-mod.create=";

/** x86's COMMAND_LINE_SIZE is 2048 bytes with the final NUL. */
const sizeLimit = 2047;

/** What contained services add; those with persistent volumes are contained, too. */
const services: [token: string, why: string][] = [
  [
    "ipv6.disable_ipv6=1",
    'no IPv6 address but loopback\'s, which PID 1 gives to services: programs listen on "::"',
  ],
  ["cgroup_v1_proc=1", "older JVMs look for their limits by the list in /proc/cgroups"],
];

/** The command line of a flavour, in order; `dm-mod.create=` stands there without its value. */
export function commandLineTokens(flavour: Flavour, variant: KernelVariant = "plain"): Token[] {
  const tokens: [token: string, why: string][] = [
    [`caisson.flavour=${flavour}`, "the image says which it is, in its measurement"],
    ["console=ttyS0", "output only: says why a boot stopped; nothing reads it"],
    [rootTable, "the root is what this hash says, or the kernel panics; no table is parsed from the disk"],
    ["root=/dev/dm-0", "the verified device, never the raw disk"],
    ["rootfstype=erofs", "no other parser sees the disk"],
    ["ro", "the root is never written"],
    ["ip=dhcp", "the kernel configures the network: no DHCP client in user space"],
    ["random.trust_cpu=on", "RDRAND is the one source that the host cannot see"],
    ["random.trust_bootloader=off", "no credit for a seed that the host chose"],
    ["rng_core.default_quality=0", "no credit for a generator of the host"],
    ["tsc=reliable", "no watchdog that would fall back to a clock of the host"],
    ["clocksource=tsc", "forbids HPET and the ACPI timer as the clock"],
    ["hpet=disable", "HPET cannot be left out of an x86-64 kernel"],
    [
      "no_timer_check",
      "a busy host delivers the first ticks late, and the kernel's test of them would panic",
    ],
    ["mce=off", "TDX selects the machine-check code, which is not hardened against the host"],
    ["oops=panic", "after a corruption nothing goes on"],
    ["panic=-1", "and the machine ends at once"],
    ["pci=noearly", "no early access to the host's configuration space"],
    ["pci=nommconf", "no memory-mapped configuration space"],
    ["acpi_no_static_ssdt", "no secondary ACPI byte code from the host"],
    ["efi=noruntime", "the host's variable store is out of reach"],
    ["lockdown=confidentiality", "root in the guest is not the kernel"],
    ["init_on_alloc=1", "memory is zeroed before use"],
    ["slab_nomerge", "a freed object is reused by its own kind only"],
    ["page_alloc.shuffle=1", "pages come in an unpredictable order"],
    ["randomize_kstack_offset=on", "the kernel stack moves with every system call"],
    ["vsyscall=none", "no code at a fixed address"],
    ["bdev_allow_write_mounted=0", "the device under a mounted file system cannot be written"],
    ["proc_mem.force_override=never", "/proc/PID/mem respects page protection"],
    ...(variant === "plain" ? [] : services),
    ["init=/usr/bin/node", "PID 1"],
    ["--", "what follows are arguments of PID 1"],
    ...initArguments.map((argument): [string, string] => [argument, "see init-arguments.ts"]),
  ];
  return tokens.map(([token, why]) => ({ token, why }));
}

/** The root as device-mapper's `dm-mod.create=` wants it (Documentation/admin-guide/device-mapper/dm-init.rst). */
function rootTableToken(rootHash: string, dataBlocks: number): string {
  const sectors = (dataBlocks * verityBlockSize) / 512;
  // version, data device, hash device, block sizes, data blocks, first hash block, algorithm, root, salt, options
  const device = diskPath("root");
  const verity = `1 ${device} ${device} ${verityBlockSize} ${verityBlockSize} ${dataBlocks} ${dataBlocks} sha256`;
  const hashes = `${rootHash} ${veritySalt.toString("hex")}`;
  return `${rootTable}"root,,,ro,0 ${sectors} verity ${verity} ${hashes} 1 panic_on_corruption"`;
}

/** The exact command line of an image. Throws ImageError `cmdline/length` when the kernel would cut it. */
export function commandLine(
  flavour: Flavour,
  verity: { rootHash: string; dataBlocks: number },
  variant: KernelVariant = "plain",
): string {
  const line = commandLineTokens(flavour, variant)
    .map(({ token }) => (token === rootTable ? rootTableToken(verity.rootHash, verity.dataBlocks) : token))
    .join(" ");
  if (line.length > sizeLimit) {
    throw new ImageError(
      "cmdline/length",
      `the command line has ${line.length} bytes; the kernel takes ${sizeLimit}`,
      {
        kind: "internal",
      },
    );
  }
  return line;
}
