// SPDX-License-Identifier: Apache-2.0
/**
 * A directory that looks like the file systems of a guest's kernel, as far as PID 1 reads and writes them: a machine in
 * good order, of which a test changes one thing. The values are written down here and come from no part of PID 1.
 */
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { TestContext } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";

/** Content by path; `{ link }` is a symbolic link, undefined is a file that is not there. */
export type Files = Record<string, string | Uint8Array | { link: string } | undefined>;

const rootTable = `dm-mod.create="root,,,ro,0 80 verity 1 /dev/vda /dev/vda 4096 4096 10 10 sha256 ${"a1".repeat(32)} ${"00".repeat(32)} 1 panic_on_corruption"`;

/** As `guest.json` has the command line, and as the kernel shows it. */
export const expectedLine = ["console=ttyS0", "dm-mod.create=", "tsc=reliable", "--", "/init.mjs"];
export const liveLine = ["console=ttyS0", rootTable, "tsc=reliable", "--", "/init.mjs"].join(" ");

/** Feature bits of a virtio device, bit 0 first: VIRTIO_F_VERSION_1 is 32, VIRTIO_F_RING_PACKED 34. */
export const featureBits = (...set: number[]): string =>
  Array.from({ length: 64 }, (_, bit) => (set.includes(bit) ? "1" : "0")).join("");

/** Settings as a kernel has them before PID 1. */
const settings: Record<string, string> = {
  "kernel/kptr_restrict": "0",
  "kernel/dmesg_restrict": "0",
  "kernel/printk": "7\t4\t1\t7",
  "kernel/perf_event_paranoid": "2",
  "kernel/yama/ptrace_scope": "1",
  "kernel/core_pattern": "core",
  "fs/suid_dumpable": "1",
  "vm/mmap_min_addr": "4096",
  "net/ipv4/ip_forward": "1",
  ...Object.fromEntries(
    ["all", "default", "eth0", "lo"].flatMap((name) => [
      [`net/ipv4/conf/${name}/accept_redirects`, "1"],
      [`net/ipv4/conf/${name}/send_redirects`, "1"],
      [`net/ipv4/conf/${name}/accept_source_route`, "1"],
      [`net/ipv4/conf/${name}/rp_filter`, "0"],
    ]),
  ),
};

const goodFiles = (): Files => ({
  "proc/cmdline": `${liveLine}\n`,
  "proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu tsc rdrand rdseed tdx_guest\n",
  "proc/mounts":
    "/dev/root / erofs ro,relatime 0 0\nproc /proc proc rw,nosuid,nodev,noexec,hidepid=invisible 0 0\ntmpfs /run tmpfs rw,nosuid,nodev,noexec 0 0\n",
  "sys/firmware/acpi/tables/data/CCEL": "a log",
  "sys/kernel/security/lockdown": "none integrity [confidentiality]\n",
  "sys/devices/virtual/misc/tdx_guest/measurements/rtmr3:sha384": new Uint8Array(48),
  "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
  "sys/devices/system/clocksource/clocksource0/available_clocksource": "tsc \n",
  "sys/bus/pci/devices/0000:00:00.0/vendor": "0x8086\n",
  "sys/bus/pci/devices/0000:00:00.0/device": "0x29c0\n",
  "sys/bus/pci/devices/0000:00:02.0/vendor": "0x1af4\n",
  "sys/bus/pci/devices/0000:00:02.0/device": "0x1042\n",
  "sys/bus/pci/drivers_autoprobe": "1\n",
  "sys/bus/virtio/devices/virtio0/features": `${featureBits(0, 32, 33)}\n`,
  "sys/bus/virtio/drivers_autoprobe": "1\n",
  "dev/kmsg":
    "6,1,0,-;Linux version 7.3\n5,120,1500,-;random: crng init done\n6,400,2100000,-;Run /usr/bin/node\n",
  "dev/random": new Uint8Array(64).fill(7),
  "dev/urandom": "",
  ...Object.fromEntries(Object.entries(settings).map(([name, value]) => [`proc/sys/${name}`, `${value}\n`])),
});

/** A tree in good order with `changes`, below a directory that goes when the test ends. Returns that directory. */
export function guestTree(t: TestContext, changes: Files = {}): string {
  const root = temporaryDirectory("tree", t);
  for (const [path, content] of Object.entries({ ...goodFiles(), ...changes })) {
    if (content === undefined) continue;
    const place = join(root, path);
    mkdirSync(dirname(place), { recursive: true });
    if (typeof content === "object" && "link" in content) symlinkSync(content.link, place);
    else writeFileSync(place, content);
  }
  return root;
}
