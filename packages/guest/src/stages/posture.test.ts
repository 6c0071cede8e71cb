// SPDX-License-Identifier: Apache-2.0

import { deepEqual, doesNotThrow, equal, match, rejects, throws } from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import type { Flavour } from "@caisson/vocabulary/flavours";
import type { Context } from "../stage.ts";
import { sysctlsFor } from "../sysctls.ts";
import { expectedLine, type Files, featureBits, guestTree, liveLine } from "../testing/tree.ts";
import { checkCommandLine, postureStage } from "./posture.ts";

const root = `dm-mod.create="root,,,ro,0 80 verity 1 /dev/vda /dev/vda 4096 4096 10 10 sha256 ${"a1".repeat(32)} ${"00".repeat(32)} 1 panic_on_corruption"`;
const expected = ["console=ttyS0", "dm-mod.create=", "tsc=reliable", "--", "/usr/lib/caisson/init.mjs"];
const live = ["console=ttyS0", root, "tsc=reliable", "--", "/usr/lib/caisson/init.mjs"];

test("the measured command line is accepted", () => {
  doesNotThrow(() => checkCommandLine(live.join(" "), expected));
});

const changes: Record<string, string[]> = {
  "a token added at the end": [...live, "init=/bin/sh"],
  "a token added in the middle": live.toSpliced(1, 0, "clearcpuid=rdrand"),
  "a token dropped": live.toSpliced(2, 1),
  "a token repeated": live.toSpliced(2, 0, "tsc=reliable"),
  "two tokens swapped": live.toSpliced(1, 2, live[2]!, live[1]!),
  "a verity table that does not panic": live.with(1, root.replace(" 1 panic_on_corruption", "")),
  "a verity table on another device": live.with(1, root.replaceAll("/dev/vda", "/dev/vdb")),
  "a writable root": live.with(1, root.replace(",ro,", ",rw,")),
  "an upper-case root hash": live.with(1, root.replace(/a1/g, "A1")),
  "a second table in the same token": live.with(1, root.replace(/"$/, ';x,,,rw,0 8 linear /dev/vdb 0"')),
};
/** Bytes that the kernel takes apart otherwise than JavaScript does, as the whole line. */
const line = live.join(" ");
const spellings: Record<string, string> = {
  "a quote that is never closed hides what follows": line.replace("tsc=reliable", 'tsc=reliable"'),
  "a quote that stands alone": `${line} "`,
  "a space of Unicode that is none to the kernel": line.replace(" --", "\u2003--"),
  "a no-break space, whose second byte alone is one to the kernel": line.replace(" --", "\u00a0--"),
  "a byte order mark at the end": `${line}\ufeff`,
};
const refused = Object.fromEntries(Object.entries(changes).map(([name, list]) => [name, list.join(" ")]));
for (const [name, changed] of Object.entries({ ...refused, ...spellings })) {
  test(`refused: ${name}`, () => {
    throws(() => checkCommandLine(changed, expected), { reason: "posture/command-line" });
  });
}

/** Settings that PID 1 makes, written down a second time: what each is, is decided here and there. */
const settings: Record<string, string> = {
  "kernel.kptr_restrict": "2",
  "kernel.dmesg_restrict": "1",
  "kernel.printk": "4\t4\t1\t7",
  "kernel.perf_event_paranoid": "3",
  "kernel.yama.ptrace_scope": "3",
  "kernel.kexec_load_disabled": "1",
  "kernel.modules_disabled": "1",
  "kernel.sysrq": "0",
  "kernel.pid_max": "4194304",
  "kernel.threads-max": "4194304",
  "fs.file-max": "9223372036854775807",
  "fs.inotify.max_user_instances": "1048576",
  "kernel.unprivileged_bpf_disabled": "1",
  "kernel.oops_limit": "1",
  "kernel.warn_limit": "1",
  "kernel.core_pattern": "|/bin/false",
  "fs.suid_dumpable": "0",
  "fs.protected_symlinks": "1",
  "fs.protected_hardlinks": "1",
  "fs.protected_fifos": "2",
  "fs.protected_regular": "2",
  "vm.unprivileged_userfaultfd": "0",
  "vm.mmap_min_addr": "65536",
  "user.max_user_namespaces": "0",
  "kernel.unprivileged_userns_clone": "0",
  "net.ipv4.icmp_echo_ignore_broadcasts": "1",
  "net.ipv4.tcp_syncookies": "1",
  "net.ipv4.ip_forward": "0",
  "net.ipv4.conf.default.accept_redirects": "0",
};
const eachInterface = {
  accept_redirects: "0",
  send_redirects: "0",
  accept_source_route: "0",
  rp_filter: "1",
};

test("what PID 1 sets is this, and what holds for all interfaces is set for each of them", () => {
  const interfaces = ["all", "default", "eth0", "lo"];
  const each = interfaces.flatMap((name) =>
    Object.entries(eachInterface).map(([setting, value]) => [`net.ipv4.conf.${name}.${setting}`, value]),
  );
  const set = sysctlsFor(interfaces).map(({ key, value }) => [key, value]);
  deepEqual(Object.fromEntries(set), { ...settings, ...Object.fromEntries(each) });
});

/** Runs the stage on a tree; returns what it measured, its note, and the tree. */
async function run(t: TestContext, changes: Files = {}, flavour: Flavour = "production") {
  const root = guestTree(t, changes);
  const measured: string[] = [];
  const context = {
    config: { flavour, commandLine: expectedLine },
    platform: { name: "tdx" },
    measure: async (name: string) => void measured.push(name),
  } as unknown as Context;
  const note = await postureStage(root).run(context);
  return { root, measured, note };
}

test("a machine in good order: one event, every setting made, nothing that appears later gets a driver", async (t) => {
  const { root, measured, note } = await run(t);
  deepEqual(measured, ["system-preparing"]);
  match(note!, /clock tsc, 2 PCI functions/);
  const read = (path: string) => readFileSync(join(root, path), "utf8").trim();
  equal(read("proc/sys/kernel/yama/ptrace_scope"), "3");
  equal(read("proc/sys/kernel/core_pattern"), "|/bin/false");
  equal(read("proc/sys/net/ipv4/conf/eth0/accept_redirects"), "0");
  equal(read("proc/sys/net/ipv4/conf/lo/rp_filter"), "1");
  equal(read("sys/bus/pci/drivers_autoprobe"), "0");
  equal(read("sys/bus/virtio/drivers_autoprobe"), "0");
  // A setting that this kernel was built without is not made.
  equal(existsSync(join(root, "proc/sys/kernel/kexec_load_disabled")), false);
});

const clocks = "sys/devices/system/clocksource/clocksource0";
const features = "sys/bus/virtio/devices/virtio0/features";
const machines: Record<string, [changes: Files, reason: string]> = {
  "another command line": [{ "proc/cmdline": `${liveLine} init=/bin/sh\n` }, "command-line"],
  "no TDX guest's processor": [{ "proc/cpuinfo": "flags\t\t: fpu tsc\n" }, "no-tee"],
  "no measurement registers": [
    { "sys/devices/virtual/misc/tdx_guest/measurements/rtmr3:sha384": undefined },
    "no-registers",
  ],
  "kvm-clock as the clock": [{ [`${clocks}/current_clocksource`]: "kvm-clock\n" }, "clock-source"],
  "HPET beside the TSC": [{ [`${clocks}/available_clocksource`]: "tsc hpet \n" }, "clock-source"],
  "the ACPI timer beside the TSC": [{ [`${clocks}/available_clocksource`]: "tsc acpi_pm\n" }, "clock-source"],
  "an unknown PCI device": [
    {
      "sys/bus/pci/devices/0000:00:1f.0/vendor": "0x8086\n",
      "sys/bus/pci/devices/0000:00:1f.0/device": "0x100e\n",
    },
    "pci-device",
  ],
  "a virtio device of before 1.0": [{ [features]: featureBits(0, 33) }, "virtio-legacy"],
  "packed rings": [{ [features]: featureBits(0, 32, 34) }, "virtio-packed"],
  "a writable root": [{ "proc/mounts": "/dev/root / erofs rw,relatime 0 0\n" }, "root"],
  "a root of another kind": [{ "proc/mounts": "/dev/root / ext4 ro,relatime 0 0\n" }, "root"],
  "a second disk that is mounted": [
    { "proc/mounts": "/dev/root / erofs ro 0 0\n/dev/vdc /data ext4 ro 0 0\n" },
    "mount",
  ],
  "no lockdown": [{ "sys/kernel/security/lockdown": "[none] integrity confidentiality\n" }, "lockdown"],
  "lockdown that root gets around": [
    { "sys/kernel/security/lockdown": "none [integrity] confidentiality\n" },
    "lockdown",
  ],
  "a setting that does not stay": [{ "proc/sys/kernel/kptr_restrict": { link: "/dev/null" } }, "sysctl"],
};
for (const [name, [changes, reason]] of Object.entries(machines)) {
  test(`refused: a machine with ${name}`, async (t) => {
    await rejects(run(t, changes), { reason: `posture/${reason}` });
  });
}

test("in production the event log must be the firmware's CCEL", async (t) => {
  const context = {
    config: { flavour: "production", commandLine: expectedLine },
    platform: { name: "emulated" },
  } as unknown as Context;
  await rejects(postureStage(guestTree(t)).run(context), { reason: "posture/no-ccel" });
});

test("a development image may calibrate its clock against the ACPI timer, and knows no other", async (t) => {
  const beside = (name: string) => ({ [`${clocks}/available_clocksource`]: `tsc ${name}\n` });
  deepEqual((await run(t, beside("acpi_pm"), "development")).measured, ["system-preparing"]);
  await rejects(run(t, beside("hpet"), "development"), { reason: "posture/clock-source" });
});

test("the clock may still be calibrated when PID 1 starts", async (t) => {
  const root = guestTree(t, { [`${clocks}/current_clocksource`]: "tsc-early\n" });
  const context = {
    config: { flavour: "production", commandLine: expectedLine },
    platform: { name: "tdx" },
    measure: async () => {},
  } as unknown as Context;
  const running = postureStage(root).run(context);
  await setImmediate();
  writeFileSync(join(root, clocks, "current_clocksource"), "tsc\n");
  match((await running)!, /clock tsc/);
});
