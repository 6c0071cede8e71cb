// SPDX-License-Identifier: Apache-2.0
/**
 * What a running guest says about itself: `caisson/live/v1` (schema: `packages/protocol/src/live-report.ts`).
 *
 * Development images serve it on request, so that the audit can compare what runs with what was built. It only reads,
 * and tries to open what must not be there; it carries no secret, only modes and owners of the files that hold them.
 * Everything lies under a root, which is "/" but in a test.
 */

import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  statSync,
} from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { parseGuestConfig } from "@caisson/protocol/guest-config";
import type { LiveReport, Probe } from "@caisson/protocol/live-report";
import { kernelLog } from "./kernel-log.ts";
import { bootLogPaths, platformOf } from "./platform.ts";
import { seededAt, seedSources } from "./stages/entropy.ts";
import type { Syscalls } from "./syscalls.ts";
import { sysctlsFor } from "./sysctls.ts";

const text = (path: string): string => readFileSync(path, "utf8").trim();
const optional = (path: string): string | null => (existsSync(path) ? text(path) : null);
const list = (path: string): string[] => (existsSync(path) ? readdirSync(path).sort() : []);
const lines = (path: string): string[] => (optional(path) ?? "").split("\n").filter((line) => line !== "");

/** Files that a hardened guest does not have; opening each must fail. */
const doors =
  `/dev/mem /dev/port /dev/kmem /proc/kcore /proc/kallsyms /proc/modules /proc/sysrq-trigger /proc/swaps
  /proc/vmcore /dev/cpu/0/msr /sys/kernel/kexec_loaded /sys/firmware/qemu_fw_cfg /sys/firmware/dmi /sys/class/dmi
  /sys/firmware/efi/efivars /sys/kernel/config/acpi /sys/kernel/debug/tracing`.split(/\s+/);

/** What Node cannot try without a system call of its own. */
const notTried: Record<string, string> = {
  "load a module": "Node has no init_module(2); the kernel has no modules (K01)",
  "start another kernel": "Node has no kexec_load(2); the kernel has no kexec (K02)",
  "open a performance counter":
    "Node has no perf_event_open(2); kernel.perf_event_paranoid is read instead (U04)",
  "load a BPF program": "Node has no bpf(2); the kernel has none (K08)",
};

function probes(root: string): Record<string, Probe> {
  const results: Record<string, Probe> = {};
  for (const path of doors) {
    try {
      closeSync(openSync(join(root, path), constants.O_RDONLY | constants.O_NONBLOCK));
      results[`open ${path}`] = { succeeded: true };
    } catch (error) {
      results[`open ${path}`] = { errno: (error as NodeJS.ErrnoException).code ?? "unknown" };
    }
  }
  for (const [name, skipped] of Object.entries(notTried)) results[name] = { skipped };
  return results;
}

function kernelConfig(root: string): Record<string, string> | null {
  const path = join(root, "proc/config.gz");
  if (!existsSync(path)) return null;
  const config = gunzipSync(readFileSync(path), { maxOutputLength: 4 * 1024 * 1024 }).toString("utf8");
  return Object.fromEntries(
    [...config.matchAll(/^CONFIG_(\w+)=(.+)$/gm)].map(([, symbol, value]) => [symbol!, value!]),
  );
}

function mounts(root: string, pid: string): LiveReport["mounts"] {
  return lines(join(root, "proc", pid, "mounts")).map((line) => {
    const [source = "", target = "", type = "", options = ""] = line.split(" ");
    return { source, target, type, options: options.split(",") };
  });
}

function blockDevices(root: string): LiveReport["blockDevices"] {
  const directory = join(root, "sys/class/block");
  return list(directory).map((name) => ({ name, readOnly: text(join(directory, name, "ro")) === "1" }));
}

/** The device-mapper name of the device that is mounted as the root. */
function rootMapper(root: string): string | null {
  const device = statSync(root).dev;
  return optional(join(root, `sys/dev/block/${(device >> 8) & 0xfff}:${device & 0xff}/dm/name`));
}

function deviceNodes(directory: string, prefix = ""): string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory()
      ? deviceNodes(`${directory}/${entry.name}`, `${prefix}${entry.name}/`)
      : [`${prefix}${entry.name}`],
  );
}

const driver = (device: string): string | null =>
  existsSync(`${device}/driver`) ? (readlinkSync(`${device}/driver`).split("/").at(-1) ?? null) : null;

function pci(root: string): LiveReport["pci"] {
  const directory = join(root, "sys/bus/pci/devices");
  return list(directory).map((address) => {
    const device = join(directory, address);
    const id = `${text(`${device}/vendor`)}:${text(`${device}/device`)}`.replaceAll("0x", "");
    return { address, id, driver: driver(device) };
  });
}

function virtio(root: string): LiveReport["virtio"] {
  const directory = join(root, "sys/bus/virtio/devices");
  return list(directory).map((name) => {
    const device = join(directory, name);
    return { name, driver: driver(device), features: text(`${device}/features`) };
  });
}

/** `applications`: processes whose devices are to be looked at, as they see them. */
function random(root: string, applications: readonly number[]): LiveReport["random"] {
  const flags = /^flags\s*:(.*)$/m.exec(text(join(root, "proc/cpuinfo")))?.[1]?.split(" ") ?? [];
  const rdrand = flags.includes("rdrand");
  const generator = optional(join(root, "sys/class/misc/hw_random/rng_current")) ?? "none";
  const log = kernelLog(root);
  const file = openSync(join(root, "dev/random"), "r");
  try {
    return {
      rdrand,
      rdseed: flags.includes("rdseed"),
      generator,
      read: readSync(file, Buffer.alloc(64)),
      seededAt: seededAt(log) ?? null,
      sources: seedSources(log, text(join(root, "proc/cmdline")), rdrand, generator),
      applications: applications
        .map((pid) => ({
          pid,
          random: deviceNumber(join(root, `proc/${pid}/root/dev/random`)),
          urandom: deviceNumber(join(root, `proc/${pid}/root/dev/urandom`)),
        }))
        // What ended meanwhile has no devices.
        .filter(({ pid }) => existsSync(join(root, `proc/${pid}`))),
    };
  } finally {
    closeSync(file);
  }
}

/** "1:8"; "none" where there is no device at `path`. */
function deviceNumber(path: string): string {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined || !found.isCharacterDevice()) return "none";
  // Linux' encoding of dev_t in the C library: minor in bits 0-7 and 20-31, major in bits 8-19.
  return `${(found.rdev >> 8) & 0xfff}:${(found.rdev & 0xff) | ((found.rdev >>> 12) & 0xfff00)}`;
}

/** An address of /proc/net/tcp: eight hex digits in the machine's byte order, and the port. */
function address(field: string): string {
  const [ip = "", port = ""] = field.split(":");
  const bytes = Buffer.from(ip, "hex").reverse();
  return `${[...bytes].join(".")}:${Number.parseInt(port, 16)}`;
}

function sockets(root: string): LiveReport["sockets"] {
  const TCP_LISTEN = "0A";
  const SO_ACCEPTCON = 0x10000;
  const inet = (protocol: "tcp" | "udp" | "raw") =>
    lines(join(root, "proc/net", protocol))
      .slice(1)
      .map((line) => {
        const fields = line.trim().split(/\s+/);
        const remote = address(fields[2]!);
        const listening = protocol === "tcp" ? fields[3] === TCP_LISTEN : remote.endsWith(":0");
        return { protocol, local: address(fields[1]!), listening, uid: Number(fields[7]) };
      });
  const unix = lines(join(root, "proc/net/unix"))
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[7] !== undefined)
    .map((fields) => {
      const listening = (Number.parseInt(fields[3]!, 16) & SO_ACCEPTCON) !== 0;
      const path = fields[7]!;
      return {
        protocol: "unix" as const,
        local: path,
        listening,
        uid: statSync(join(root, path), { throwIfNoEntry: false })?.uid ?? 0,
      };
    });
  return [...inet("tcp"), ...inet("udp"), ...inet("raw"), ...unix];
}

function processes(root: string): LiveReport["processes"] {
  const pids = list(join(root, "proc")).filter((name) => /^\d+$/.test(name));
  return pids.flatMap((pid) => {
    try {
      return [describe(root, pid)];
    } catch (error) {
      // It ended while it was looked at.
      if (!["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
      return [];
    }
  });
}

/** /proc/PID/limits: a name, then soft and hard limit, in columns of at least two spaces (fs/proc/base.c). */
const limits = (path: string): LiveReport["processes"][number]["limits"] =>
  Object.fromEntries(
    lines(path)
      .slice(1)
      .map((line) => line.split(/ {2,}/))
      .map(([name = "", soft = "", hard = ""]) => [name, { soft, hard }]),
  );

function describe(root: string, pid: string): LiveReport["processes"][number] {
  const own = join(root, "proc", pid);
  const status = text(join(own, "status"));
  const field = (name: string): string => new RegExp(`^${name}:\\s*(.*)$`, "m").exec(status)?.[1] ?? "";
  const kernelThread = field("VmSize") === "";
  const namespaces = Object.fromEntries(
    list(join(own, "ns")).map((kind) => [kind, readlinkSync(join(own, "ns", kind))]),
  );
  return {
    pid: Number(pid),
    parent: Number(field("PPid")),
    name: field("Name"),
    executable: kernelThread ? "" : readlinkSync(join(own, "exe")),
    uid: Number(field("Uid").split(/\s+/)[0]),
    gid: Number(field("Gid").split(/\s+/)[0]),
    capabilities: {
      effective: field("CapEff"),
      permitted: field("CapPrm"),
      bounding: field("CapBnd"),
      ambient: field("CapAmb"),
    },
    noNewPrivileges: field("NoNewPrivs") === "1",
    seccomp: Number(field("Seccomp")),
    seccompFilters: Number(field("Seccomp_filters")),
    namespaces,
    mounts:
      kernelThread || namespaces["mnt"] === readlinkSync(join(root, "proc/self/ns/mnt"))
        ? null
        : mounts(root, pid),
    limits: limits(join(own, "limits")),
    // The name, in parentheses, may hold anything; of what follows it, nice is the 17th field (proc_pid_stat(5)).
    nice: Number(text(join(own, "stat")).split(")").at(-1)!.trim().split(" ")[16]),
    // Of version 2 there is one hierarchy, whose number is 0 (cgroups(7)).
    controlGroup: /^0::(.*)$/m.exec(text(join(own, "cgroup")))?.[1] ?? "",
    kernelThread,
  };
}

/** What the kernel holds each group to that a process is in; the first one has no limits of its own. */
function controlGroups(root: string, running: LiveReport["processes"]): LiveReport["controlGroups"] {
  const paths = new Set(running.map(({ controlGroup }) => controlGroup).filter((path) => path !== "/"));
  return Object.fromEntries(
    [...paths].map((path) => {
      const value = (name: string) => optional(join(root, "sys/fs/cgroup", path, name));
      const limits = { memory: value("memory.max"), pids: value("pids.max") };
      return [path, { ...limits, killedTogether: value("memory.oom.group"), weight: value("cpu.weight") }];
    }),
  );
}

/** Whether this process has executable memory that does not belong to a file (/proc/PID/maps, proc_pid_maps(5)). */
function codeWithoutFile(root: string): boolean {
  return lines(join(root, "proc/self/maps")).some((line) =>
    /^\S+ ..x. \S+ \S+ \S+ *($|\[(?!vdso|vsyscall))/.test(line),
  );
}

function files(root: string): LiveReport["files"] {
  const directory = "/run/caisson";
  const paths = [directory, ...list(join(root, directory)).map((name) => `${directory}/${name}`)];
  return paths.map((path) => {
    const { mode, uid, size } = statSync(join(root, path));
    return { path, mode: mode & 0o7777, uid, size };
  });
}

/** Reads everything, once. Throws what reading throws: a guest that cannot look at itself says nothing. */
export function liveReport(root: string, syscalls: Pick<Syscalls, "newCodeForbidden">): LiveReport {
  const at = (path: string): string => join(root, path);
  const config = parseGuestConfig(JSON.parse(text(at("/etc/caisson/guest.json"))));
  const clock = at("/sys/devices/system/clocksource/clocksource0");
  const running = processes(root);
  const buses = at("/sys/bus");
  const drivers = list(buses).map((bus) => [bus, list(join(buses, bus, "drivers"))] as const);
  return {
    version: "caisson/live/v1",
    flavour: config.flavour,
    platform: platformOf(bootLogPaths(root)),
    release: text(at("/proc/sys/kernel/osrelease")),
    commandLine: text(at("/proc/cmdline")),
    kernelConfig: kernelConfig(root),
    sysctls: Object.fromEntries(
      sysctlsFor(list(at("/proc/sys/net/ipv4/conf"))).map(({ key }) => [
        key,
        optional(at(`/proc/sys/${key.replaceAll(".", "/")}`)),
      ]),
    ),
    lockdown: optional(at("/sys/kernel/security/lockdown")) ?? "unknown",
    mounts: mounts(root, "self"),
    blockDevices: blockDevices(root),
    rootMapper: rootMapper(root),
    deviceNodes: deviceNodes(at("/dev")).sort(),
    pci: pci(root),
    virtio: virtio(root),
    drivers: Object.fromEntries(drivers.filter(([, names]) => names.length > 0)),
    filesystems: lines(at("/proc/filesystems")).map((line) => line.split("\t").at(-1)!),
    protocols: lines(at("/proc/net/protocols"))
      .slice(1)
      .map((line) => line.split(/\s+/)[0]!),
    autoprobe: {
      pci: text(at("/sys/bus/pci/drivers_autoprobe")),
      virtio: text(at("/sys/bus/virtio/drivers_autoprobe")),
    },
    clock: {
      current: text(`${clock}/current_clocksource`),
      available: text(`${clock}/available_clocksource`).split(/\s+/),
    },
    random: random(
      root,
      running.filter(({ uid, kernelThread }) => uid !== 0 && !kernelThread).map(({ pid }) => pid),
    ),
    sockets: sockets(root),
    processes: running,
    controlGroups: controlGroups(root, running),
    codeWithoutFile: codeWithoutFile(root),
    newCodeForbidden: syscalls.newCodeForbidden(),
    files: files(root),
    events: lines(at("/run/caisson/runtime-events.jsonl")).map(
      (line) => (JSON.parse(line) as { name: string }).name,
    ),
    now: Date.now(),
    epoch: config.epoch,
    probes: probes(root),
  };
}
