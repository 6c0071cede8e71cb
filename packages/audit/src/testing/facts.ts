// SPDX-License-Identifier: Apache-2.0
/**
 * Facts of an image, a guest and its evidence that pass every control, recommended ones included. What the real
 * parts define is taken from them: the resolved kernel configuration, the command line, the sandbox, the settings.
 */

import { readFileSync } from "node:fs";
import { runtimeConfig } from "@caisson/guest/sandbox";
import { sysctlsFor } from "@caisson/guest/sysctls";
import { commandLine, commandLineTokens } from "@caisson/image/cmdline";
import { splitCommandLine } from "@caisson/protocol/command-line";
import type { GuestConfig } from "@caisson/protocol/guest-config";
import { plainService } from "@caisson/protocol/testing/service";
import { checks } from "@caisson/verify/errors";
import { bootEvents } from "@caisson/vocabulary/events";
import type { Flavour } from "@caisson/vocabulary/flavours";
import { type Facts } from "../control.ts";
import type { FileFact, ImageFacts, LiveFacts, RemoteFacts, RuntimeFacts } from "../facts.ts";
import { parseKernelConfig } from "../kernel-config.ts";
import { frontRuntime, serviceRuntime } from "../runtime.ts";

const repository = new URL("../../../../", import.meta.url);
const rootHash = "ab".repeat(32);
const epoch = 1_793_491_200;

/** The configuration that the repository commits. */
export const resolvedConfig = (flavour: Flavour) =>
  parseKernelConfig(readFileSync(new URL(`kernel/resolved-${flavour}.config`, repository), "utf8"));

/** What only recommended controls want, and no kernel of ours has yet. */
const wishes: [symbol: string, value: string | undefined][] = [
  ["CFI", "y"],
  ["VIRTIO_PCI_ADMIN_LEGACY", undefined],
  ["ACPI_CUSTOM_DSDT_FILE", '"dsdt.hex"'],
];

function wishedConfig(): Map<string, string> {
  const config = new Map(resolvedConfig("production"));
  for (const [symbol, value] of wishes) {
    if (value === undefined) config.delete(symbol);
    else config.set(symbol, value);
  }
  return config;
}

const service = plainService({
  arguments: ["/usr/bin/node", "/server.mjs"],
  environment: { PORT: "8080" },
  user: 1000,
  group: 1000,
});

const app: GuestConfig["app"] = {
  name: "hello",
  services: { hello: service },
  networks: {},
  volumes: {},
};

const file = (mode: number, more: Partial<FileFact> = {}): FileFact => ({
  kind: "file",
  mode,
  uid: 0,
  gid: 0,
  size: 100,
  ...more,
});
const directory: FileFact = { kind: "directory", mode: 0o755, uid: 0, gid: 0, size: 0 };
const hardened = { needed: [], pie: true, relro: "full", stackProtected: true } as const;

export function goodImage(): ImageFacts {
  const shares = [
    { source: "/run/caisson/app.sock", destination: "/run/caisson.sock", writable: true },
    { source: "/run/caisson/app-key", destination: "/run/secrets/caisson-key" },
  ];
  return {
    kind: "image",
    flavour: "production",
    commandLine: splitCommandLine(commandLine("production", { rootHash, dataBlocks: 1000 })),
    kernel: { release: "7.3.4", config: wishedConfig(), size: 3_000_000 },
    packages: ["libc6"],
    files: new Map([
      ["/usr", directory],
      ["/usr/bin/node", file(0o755, { elf: { ...hardened, needed: [], kind: "executable", pie: false } })],
      ["/usr/bin/crun", file(0o755, { elf: { ...hardened, needed: [], kind: "executable" } })],
      ["/usr/lib64/ld-linux-x86-64.so.2", file(0o755, { elf: { ...hardened, needed: [], kind: "library" } })],
      ["/usr/lib/caisson/init.mjs", file(0o644)],
      ["/usr/lib/caisson/syscalls.node", file(0o644, { elf: { ...hardened, needed: [], kind: "library" } })],
      ["/etc/caisson/guest.json", file(0o644)],
      ["/etc/nsswitch.conf", file(0o644)],
      ["/etc/hosts", file(0o644)],
      [
        "/etc/resolv.conf",
        { kind: "symlink", mode: 0o777, uid: 0, gid: 0, size: 16, target: "/run/resolv.conf" },
      ],
      // The application is opaque: what it brings is its sandbox's business.
      ["/app/rootfs/bin/sh", file(0o755)],
      ["/app/web/rootfs/usr/lib/systemd/systemd-networkd", file(0o755)],
      ["/app/web/rootfs/etc/machine-id", file(0o644)],
      ["/app/web/rootfs/usr/sbin/agetty", file(0o755)],
      ["/app/web/rootfs/etc/fstab", file(0o644)],
      ["/app/web/files/0/sh", file(0o644)],
    ]),
    root: { incompatibleFeatures: 0, extendedAttributes: false, rootHash, treeIntact: true },
    guest: {
      version: "caisson/guest/v1",
      flavour: "production",
      epoch,
      commandLine: commandLineTokens("production").map(({ token }) => token),
      app: structuredClone(app),
      time: { secure_time: true },
    },
    runtime: structuredClone(runtimeConfig(service, shares)) as RuntimeFacts,
    firmware: {
      size: 4 * 1024 * 1024,
      sha256: "ef".repeat(32),
      form: "guid-table",
      secureBootKeys: [],
      sections: ["BFV", "CFV", "TD_HOB", "TempMem"].map((type) => ({
        type,
        size: 4096,
        measured: type === "BFV",
      })),
      modules: [
        { guid: "d6a2cb7f-6a18-4e2f-b43b-9920a733700a", name: "DxeCore", type: "DXE core", size: 100_000 },
      ],
    },
    build: {
      changed: [],
      lock: "12".repeat(32),
      sourceDate: epoch,
      unaccounted: [],
      init: { image: "34".repeat(32), sources: "34".repeat(32), exec: false },
    },
  };
}

const process = (
  pid: number,
  more: Partial<LiveFacts["processes"][number]>,
): LiveFacts["processes"][number] => ({
  pid,
  parent: 0,
  name: "node",
  executable: "/usr/bin/node",
  uid: 0,
  gid: 0,
  capabilities: {
    effective: "000001ffffffffff",
    permitted: "000001ffffffffff",
    bounding: "000001ffffffffff",
    ambient: "0",
  },
  noNewPrivileges: false,
  seccomp: 0,
  seccompFilters: 0,
  namespaces: { pid: "pid:[1]", mnt: "mnt:[1]", ipc: "ipc:[1]", uts: "uts:[1]", net: "net:[1]" },
  mounts: null,
  limits: { "Max core file size": { soft: "0", hard: "0" } },
  controlGroup: "/",
  nice: 0,
  kernelThread: false,
  ...more,
});

const features = (...bits: number[]) =>
  Array.from({ length: 64 }, (_, i) => (bits.includes(i) ? "1" : "0")).join("");
const quiet = ["rw", "nosuid", "nodev", "noexec"];
const missing = [
  "/proc/modules",
  "/sys/kernel/kexec_loaded",
  "/dev/mem",
  "/dev/port",
  "/proc/kcore",
  "/dev/cpu/0/msr",
  "/proc/sysrq-trigger",
  "/sys/firmware/qemu_fw_cfg",
  "/sys/class/dmi",
  "/sys/firmware/dmi",
  "/proc/swaps",
  "/sys/kernel/config/acpi",
];

export function goodLive(): LiveFacts {
  const none = {
    effective: "0000000000000000",
    permitted: "0000000000000000",
    bounding: "0000000000000000",
    ambient: "0000000000000000",
  };
  return {
    version: "caisson/live/v1",
    flavour: "production",
    platform: "tdx",
    release: "7.3.4",
    commandLine: commandLine("production", { rootHash, dataBlocks: 1000 }),
    kernelConfig: Object.fromEntries(wishedConfig()),
    sysctls: Object.fromEntries(
      sysctlsFor(["all", "default", "eth0", "lo"]).map(({ key, value }) => [key, value]),
    ),
    lockdown: "none integrity [confidentiality]",
    mounts: [
      { source: "/dev/root", target: "/", type: "erofs", options: ["ro"] },
      { source: "proc", target: "/proc", type: "proc", options: [...quiet, "hidepid=invisible"] },
      { source: "devtmpfs", target: "/dev", type: "devtmpfs", options: ["rw", "nosuid", "noexec"] },
      { source: "configfs", target: "/sys/kernel/config", type: "configfs", options: quiet },
      { source: "tmpfs", target: "/run", type: "tmpfs", options: quiet },
      { source: "tmpfs", target: "/tmp", type: "tmpfs", options: quiet },
    ],
    blockDevices: [
      { name: "vda", readOnly: true },
      { name: "vdb", readOnly: true },
      { name: "dm-0", readOnly: true },
    ],
    rootMapper: "root",
    deviceNodes: ["null", "zero", "urandom", "ttyS0", "vda", "vdb", "dm-0"],
    pci: [
      { address: "0000:00:00.0", id: "8086:29c0", driver: null },
      { address: "0000:00:02.0", id: "1af4:1042", driver: "virtio-pci" },
    ],
    virtio: [{ name: "virtio0", driver: "virtio_blk", features: features(32, 33) }],
    drivers: { virtio: ["virtio_blk", "virtio_net"], pci: ["virtio-pci"] },
    filesystems: ["sysfs", "tmpfs", "proc", "cgroup2", "devtmpfs", "configfs", "securityfs", "erofs"],
    protocols: ["TCP", "UDP", "UNIX", "RAW", "PING", "NETLINK"],
    autoprobe: { pci: "0", virtio: "0" },
    clock: { current: "tsc", available: ["tsc"] },
    random: {
      rdrand: true,
      rdseed: true,
      generator: "none",
      read: 64,
      seededAt: 0.002,
      sources: [
        { name: "processor", credited: true },
        { name: "firmware", credited: false },
      ],
      applications: [{ pid: 300, random: "1:8", urandom: "1:9" }],
    },
    sockets: [{ protocol: "tcp", local: "0.0.0.0:8080", listening: true, uid: 1000 }],
    processes: [
      process(1, {}),
      process(2, { name: "kthreadd", executable: "", kernelThread: true }),
      process(300, {
        parent: 1,
        uid: 1000,
        gid: 1000,
        capabilities: none,
        noNewPrivileges: true,
        seccomp: 2,
        seccompFilters: 1,
        controlGroup: "/app",
        namespaces: { pid: "pid:[2]", mnt: "mnt:[2]", ipc: "ipc:[2]", uts: "uts:[2]", net: "net:[1]" },
        mounts: [
          { source: "/dev/root", target: "/", type: "erofs", options: ["ro"] },
          { source: "tmpfs", target: "/tmp", type: "tmpfs", options: quiet },
        ],
      }),
    ],
    controlGroups: { "/app": { memory: "268435456", pids: "64", killedTogether: "1", weight: "100" } },
    codeWithoutFile: false,
    newCodeForbidden: true,
    files: [
      { path: "/run/caisson", mode: 0o711, uid: 0, size: 64 },
      { path: "/run/caisson/runtime-events.jsonl", mode: 0o600, uid: 0, size: 64 },
      { path: "/run/caisson/app-key", mode: 0o400, uid: 1000, size: 64 },
    ],
    events: [...bootEvents],
    now: (epoch + 3600) * 1000,
    epoch,
    probes: Object.fromEntries(missing.map((path) => [`open ${path}`, { errno: "ENOENT" }])),
  };
}

export function goodRemote(): RemoteFacts {
  return {
    kind: "remote",
    platform: "tdx",
    report: {
      version: "caisson/report/v1",
      verdict: "accepted",
      scope: "genuine-and-acceptable",
      at: "2026-11-01T00:00:00Z",
      codes: [],
      reference: "hello",
      checks: (Object.keys(checks) as (keyof typeof checks)[]).map((id) => ({
        id,
        outcome: "pass",
        source: checks[id].source,
        ...(id === "policy/platform" && { actual: "tdx" }),
      })),
    },
  };
}

export const goodFacts: { [K in keyof Facts]: () => Facts[K] } = {
  static: goodImage,
  live: goodLive,
  remote: goodRemote,
};

/** The same with a front, and so with a contained service behind it. */
function frontedImage(): ImageFacts {
  const image = goodImage();
  const { app } = image.guest;
  image.guest.app = {
    ...app,
    services: { hello: plainService({ isolation: "contained", ports: [] }) },
    front: { port: 8443, service: "hello", target: 8080, names: [], require: "tls" },
  };
  return {
    ...image,
    runtime: structuredClone(serviceRuntime(image.guest)),
    ...structuredClone(frontRuntime(image.guest)),
  };
}

function frontedLive(): LiveFacts {
  const live = goodLive();
  const app = live.processes.find(({ uid }) => uid !== 0)!;
  // Outside, ids of the first contained service and of the front (packages/guest/src/services/place.ts).
  const [behind, outer] = [101_000, 100_000 + 32 * 65_536 + 65_532];
  Object.assign(app, { uid: behind, gid: behind, controlGroup: "/service-hello" });
  app.namespaces["net"] = "net:[2]";
  const own = { pid: "pid:[3]", mnt: "mnt:[3]", ipc: "ipc:[3]", uts: "uts:[3]", net: "net:[3]" };
  const front = { pid: 400, uid: outer, gid: outer, controlGroup: "/service-_front", namespaces: own };
  live.processes.push({ ...structuredClone(app), ...front });
  const limits = live.controlGroups["/app"]!;
  live.controlGroups = { "/service-hello": limits, "/service-_front": { ...limits } };
  live.sockets = [{ protocol: "tcp", local: "0.0.0.0:8443", listening: true, uid: 0 }];
  return live;
}

/** Facts of what has a front. */
export const frontedFacts: typeof goodFacts = {
  static: frontedImage,
  live: frontedLive,
  remote: goodRemote,
};
