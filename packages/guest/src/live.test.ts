// SPDX-License-Identifier: Apache-2.0
/** What a guest says of itself, on a tree whose every fact is written down here. */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { gzipSync } from "node:zlib";
import { liveReportSchema } from "@caisson/protocol/live-report";
import { plainService } from "@caisson/protocol/testing/service";
import { liveReport } from "./live.ts";
import { expectedLine, type Files, featureBits, guestTree, liveLine } from "./testing/tree.ts";

const configuration = {
  version: "caisson/guest/v1",
  flavour: "development",
  epoch: 1_793_491_200,
  commandLine: expectedLine,
  app: { name: "hello", services: { hello: plainService() }, networks: {}, volumes: {} },
  time: { secure_time: true },
};

const limits = (core: string, files: string) =>
  `Limit                     Soft Limit           Hard Limit           Units     \n` +
  `Max cpu time              unlimited            unlimited            seconds   \n` +
  `Max core file size        ${core.padEnd(20)} ${core.padEnd(20)} bytes     \n` +
  `Max open files            ${files.padEnd(20)} ${files.padEnd(20)} files     \n`;

/** proc_pid_stat(5): the name is in parentheses, priority and nice are fields 18 and 19. */
const stat = (pid: number, name: string, nice: number) =>
  `${pid} (${name}) S ${Array.from({ length: 14 }, (_, i) => i).join(" ")} 20 ${nice} 1 0 0\n`;
const status = (name: string, parent: number, user: number, capabilities: string, seccomp: number) =>
  `Name:\t${name}\nPPid:\t${parent}\nUid:\t${user}\t${user}\t${user}\t${user}\nGid:\t${user}\t${user}\t${user}\t${user}\n` +
  `VmSize:\t1000 kB\nCapPrm:\t${capabilities}\nCapEff:\t${capabilities}\nCapBnd:\t${capabilities}\nCapAmb:\t0000000000000000\n` +
  `NoNewPrivs:\t${seccomp > 0 ? 1 : 0}\nSeccomp:\t${seccomp}\nSeccomp_filters:\t${seccomp > 0 ? 1 : 0}\n`;

const all = "000001ffffffffff";
const none = "0000000000000000";

function guest(t: TestContext, changes: Files = {}): string {
  const namespaces = (pid: string, number: number): Files =>
    Object.fromEntries(
      ["mnt", "net", "pid"].map((kind) => [
        `proc/${pid}/ns/${kind}`,
        { link: `${kind}:[${kind === "net" ? 1 : number}]` },
      ]),
    );
  return guestTree(t, {
    "etc/caisson/guest.json": JSON.stringify(configuration),
    "proc/sys/kernel/osrelease": "7.3.4\n",
    "proc/config.gz": gzipSync("CONFIG_BUG=y\n# CONFIG_MODULES is not set\nCONFIG_NR_CPUS=64\n"),
    "proc/filesystems": "nodev\tsysfs\nnodev\ttmpfs\n\terofs\n",
    "proc/net/protocols": "protocol  size\nTCP       2000\nUNIX      1000\n",
    "proc/net/tcp":
      "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n" +
      "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 1\n",
    "proc/net/udp":
      "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n" +
      "   0: 0F02000A:0202 0202000A:007B 01 00000000:00000000 00:00000000 00000000     0 0 1\n",
    "proc/net/unix":
      "Num       RefCount Protocol Flags    Type St Inode Path\n" +
      "0000000000000000: 00000002 00000000 00010000 0001 01 100 /run/caisson/app.sock\n" +
      "0000000000000000: 00000003 00000000 00000000 0001 03 101\n",
    "proc/self/mounts":
      "/dev/root / erofs ro 0 0\nproc /proc proc rw,nosuid,nodev,noexec,hidepid=invisible 0 0\n",
    "proc/self/maps":
      "400000-401000 r-xp 00000000 fd:00 12 /usr/bin/node\n" +
      "7f00000000-7f00001000 rw-p 00000000 00:00 0 \n" +
      "7ffd000000-7ffd001000 r-xp 00000000 00:00 0 [vdso]\n",
    "proc/1/status": status("node", 0, 0, all, 0),
    "proc/1/limits": limits("0", "1048576"),
    "proc/1/cgroup": "0::/\n",
    "proc/1/stat": stat(1, "node", -20),
    "proc/1/exe": { link: "/usr/bin/node" },
    ...namespaces("1", 1),
    ...namespaces("self", 1),
    "proc/2/status":
      "Name:\tkthreadd\nPPid:\t0\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nSeccomp:\t0\nSeccomp_filters:\t0\n",
    "proc/2/limits": limits("0", "4096"),
    "proc/2/cgroup": "0::/\n",
    "proc/2/stat": stat(2, "kthreadd", 0),
    ...namespaces("2", 1),
    "proc/300/status": status("node", 1, 1000, none, 2),
    "proc/300/limits": limits("0", "65536"),
    "proc/300/cgroup": "0::/app\n",
    "proc/300/stat": stat(300, "a) name (of its own", 5),
    "proc/300/exe": { link: "/usr/bin/node" },
    "proc/300/mounts": "/dev/root / erofs ro 0 0\ntmpfs /tmp tmpfs rw,nosuid,nodev,noexec 0 0\n",
    "proc/300/root/dev/random": { link: "/dev/random" },
    "proc/300/root/dev/urandom": { link: "/dev/urandom" },
    ...namespaces("300", 2),
    "sys/fs/cgroup/app/memory.max": "268435456\n",
    "sys/fs/cgroup/app/pids.max": "64\n",
    "sys/fs/cgroup/app/memory.oom.group": "1\n",
    "sys/class/block/vda/ro": "1\n",
    "sys/class/block/vdb/ro": "0\n",
    "sys/bus/pci/drivers/virtio-pci/bind": "",
    "run/caisson/runtime-events.jsonl":
      '{"name":"system-preparing","payload":""}\n{"name":"app-id","payload":"00"}\n',
    ...changes,
  });
}

const syscalls = { newCodeForbidden: () => true };
const report = (root: string) => liveReport(root, syscalls);

test("the report is one that its reader accepts", (t) => {
  const said = report(guest(t));
  deepEqual(liveReportSchema.parse(JSON.parse(JSON.stringify(said))), said);
  deepEqual([said.flavour, said.platform, said.release], ["development", "tdx", "7.3.4"]);
  equal(said.commandLine, liveLine);
});

test("the kernel's configuration: what is set, and null when it is not shown", (t) => {
  deepEqual(report(guest(t)).kernelConfig, { BUG: "y", NR_CPUS: "64" });
  equal(report(guest(t, { "proc/config.gz": undefined })).kernelConfig, null);
});

test("settings are the kernel's own, and one that it does not have is null", (t) => {
  const { sysctls } = report(guest(t));
  equal(sysctls["kernel.yama.ptrace_scope"], "1");
  equal(sysctls["net.ipv4.conf.eth0.rp_filter"], "0");
  equal(sysctls["kernel.kexec_load_disabled"], null);
});

test("each process with its powers, its namespaces, its limits and its group", (t) => {
  const { processes } = report(guest(t));
  const [first, thread, application] = processes;
  deepEqual(
    processes.map(({ pid, parent, kernelThread }) => [pid, parent, kernelThread]),
    [
      [1, 0, false],
      [2, 0, true],
      [300, 1, false],
    ],
  );
  deepEqual(
    [first!.capabilities.bounding, first!.seccomp, first!.seccompFilters, first!.mounts],
    [all, 0, 0, null],
  );
  equal(thread!.executable, "");
  deepEqual(
    processes.map(({ nice }) => nice),
    [-20, 0, 5],
  );
  deepEqual(application!.capabilities, { effective: none, permitted: none, bounding: none, ambient: none });
  deepEqual([application!.uid, application!.gid, application!.noNewPrivileges], [1000, 1000, true]);
  deepEqual([application!.seccomp, application!.seccompFilters], [2, 1]);
  deepEqual(application!.limits, {
    "Max cpu time": { soft: "unlimited", hard: "unlimited" },
    "Max core file size": { soft: "0", hard: "0" },
    "Max open files": { soft: "65536", hard: "65536" },
  });
  equal(application!.controlGroup, "/app");
  deepEqual(application!.namespaces, { mnt: "mnt:[2]", net: "net:[1]", pid: "pid:[2]" });
  deepEqual(
    application!.mounts?.map(({ target }) => target),
    ["/", "/tmp"],
  );
});

test("the limits of each group that a process is in, as the kernel holds it to them", (t) => {
  deepEqual(report(guest(t)).controlGroups, {
    "/app": { memory: "268435456", pids: "64", killedTogether: "1", weight: null },
  });
  const unlimited = report(guest(t, { "sys/fs/cgroup/app/pids.max": "max\n" }));
  equal(unlimited.controlGroups["/app"]?.pids, "max");
});

test("a process that ends while it is looked at is left out; what cannot be read otherwise is an error", (t) => {
  const ended = guest(t, { "proc/300/exe": undefined });
  deepEqual(
    report(ended).processes.map(({ pid }) => pid),
    [1, 2],
  );
  throws(() => report(guest(t, { "proc/300/limits": undefined, "proc/300/limits/x": "" })), {
    code: "EISDIR",
  });
});

test("executable memory of no file is told, the kernel's own pages are not", (t) => {
  equal(report(guest(t)).codeWithoutFile, false);
  const root = guest(t);
  writeFileSync(join(root, "proc/self/maps"), "7f00000000-7f00001000 rwxp 00000000 00:00 0 \n");
  equal(report(root).codeWithoutFile, true);
  writeFileSync(join(root, "proc/self/maps"), "7f00000000-7f00001000 r-xp 00000000 00:00 0 [heap]\n");
  equal(report(root).codeWithoutFile, true);
});

test("whether new code is forbidden is the kernel's answer", (t) => {
  equal(report(guest(t)).newCodeForbidden, true);
  equal(liveReport(guest(t), { newCodeForbidden: () => false }).newCodeForbidden, false);
});

test("sockets, listening or not, with their owners", (t) => {
  const { sockets } = report(guest(t, { "run/caisson/app.sock": "" }));
  deepEqual(sockets, [
    { protocol: "tcp", local: "0.0.0.0:8080", listening: true, uid: 1000 },
    { protocol: "udp", local: "10.0.2.15:514", listening: false, uid: 0 },
    { protocol: "unix", local: "/run/caisson/app.sock", listening: true, uid: process.getuid!() },
  ]);
});

test("devices, their drivers and features; disks and whether they can be written", (t) => {
  const said = report(guest(t));
  deepEqual(
    said.pci.map(({ address, id, driver }) => [address, id, driver]),
    [
      ["0000:00:00.0", "8086:29c0", null],
      ["0000:00:02.0", "1af4:1042", null],
    ],
  );
  deepEqual(said.virtio, [{ name: "virtio0", driver: null, features: featureBits(0, 32, 33) }]);
  deepEqual(said.drivers, { pci: ["virtio-pci"] });
  deepEqual(said.blockDevices, [
    { name: "vda", readOnly: true },
    { name: "vdb", readOnly: false },
  ]);
  deepEqual(said.deviceNodes, ["kmsg", "random", "urandom"]);
});

test("randomness: where from, since when, and what the application finds in its place", (t) => {
  const { random } = report(guest(t));
  deepEqual(random, {
    rdrand: true,
    rdseed: true,
    generator: "none",
    read: 64,
    seededAt: 0.0015,
    // The command line of this tree says nothing of credit, and then the kernel gives it.
    sources: [{ name: "processor", credited: true }],
    applications: [{ pid: 300, random: "1:8", urandom: "1:9" }],
  });
});

test("doors: what can be opened is told, and each that cannot with its reason", (t) => {
  const { probes } = report(guest(t, { "proc/kcore": "x" }));
  deepEqual(probes["open /proc/kcore"], { succeeded: true });
  deepEqual(probes["open /dev/mem"], { errno: "ENOENT" });
  ok("skipped" in probes["load a BPF program"]!);
});

test("files that hold secrets and records by mode and owner, never their content", (t) => {
  const said = report(guest(t, { "run/caisson/app-key": "5ec2e7" }));
  deepEqual(
    said.files.map(({ path }) => path),
    ["/run/caisson", "/run/caisson/app-key", "/run/caisson/runtime-events.jsonl"],
  );
  ok(!JSON.stringify(said).includes("5ec2e7"));
  deepEqual(said.events, ["system-preparing", "app-id"]);
});
