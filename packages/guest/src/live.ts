/**
 * What a running guest says about itself: `caisson/live/v1` (schema: `packages/protocol/src/live-report.ts`).
 *
 * Development images serve it on request, so that the audit can compare what runs with what was built. It only reads,
 * and tries to open what must not be there; it carries no secret, only modes and owners of the files that hold them.
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
import { gunzipSync } from "node:zlib";
import { parseGuestConfig } from "@caisson/protocol/guest-config";
import type { LiveReport, Probe } from "@caisson/protocol/live-report";
import { detectPlatform } from "./platform.ts";
import { kernelLog, seededAt, seedSources } from "./stages/entropy.ts";
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

function probes(): Record<string, Probe> {
  const results: Record<string, Probe> = {};
  for (const path of doors) {
    try {
      closeSync(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK));
      results[`open ${path}`] = { succeeded: true };
    } catch (error) {
      results[`open ${path}`] = { errno: (error as NodeJS.ErrnoException).code ?? "unknown" };
    }
  }
  for (const [name, skipped] of Object.entries(notTried)) results[name] = { skipped };
  return results;
}

function kernelConfig(): Record<string, string> | null {
  if (!existsSync("/proc/config.gz")) return null;
  const config = gunzipSync(readFileSync("/proc/config.gz"), { maxOutputLength: 4 * 1024 * 1024 }).toString(
    "utf8",
  );
  return Object.fromEntries(
    [...config.matchAll(/^CONFIG_(\w+)=(.+)$/gm)].map(([, symbol, value]) => [symbol!, value!]),
  );
}

function mounts(pid: string): LiveReport["mounts"] {
  return lines(`/proc/${pid}/mounts`).map((line) => {
    const [source = "", target = "", type = "", options = ""] = line.split(" ");
    return { source, target, type, options: options.split(",") };
  });
}

function blockDevices(): LiveReport["blockDevices"] {
  return list("/sys/class/block").map((name) => ({
    name,
    readOnly: text(`/sys/class/block/${name}/ro`) === "1",
  }));
}

/** The device-mapper name of the device that is mounted as the root. */
function rootMapper(): string | null {
  const device = statSync("/").dev;
  return optional(`/sys/dev/block/${(device >> 8) & 0xfff}:${device & 0xff}/dm/name`);
}

function deviceNodes(directory = "/dev", prefix = ""): string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory()
      ? deviceNodes(`${directory}/${entry.name}`, `${prefix}${entry.name}/`)
      : [`${prefix}${entry.name}`],
  );
}

const driver = (device: string): string | null =>
  existsSync(`${device}/driver`) ? (readlinkSync(`${device}/driver`).split("/").at(-1) ?? null) : null;

function pci(): LiveReport["pci"] {
  return list("/sys/bus/pci/devices").map((address) => {
    const device = `/sys/bus/pci/devices/${address}`;
    const id = `${text(`${device}/vendor`)}:${text(`${device}/device`)}`.replaceAll("0x", "");
    return { address, id, driver: driver(device) };
  });
}

function virtio(): LiveReport["virtio"] {
  return list("/sys/bus/virtio/devices").map((name) => {
    const device = `/sys/bus/virtio/devices/${name}`;
    return { name, driver: driver(device), features: text(`${device}/features`) };
  });
}

/** `applications`: processes whose devices are to be looked at, as they see them. */
function random(applications: readonly number[]): LiveReport["random"] {
  const flags = /^flags\s*:(.*)$/m.exec(text("/proc/cpuinfo"))?.[1]?.split(" ") ?? [];
  const rdrand = flags.includes("rdrand");
  const generator = optional("/sys/class/misc/hw_random/rng_current") ?? "none";
  const log = kernelLog();
  const file = openSync("/dev/random", "r");
  try {
    return {
      rdrand,
      rdseed: flags.includes("rdseed"),
      generator,
      read: readSync(file, Buffer.alloc(64)),
      seededAt: seededAt(log) ?? null,
      sources: seedSources(log, text("/proc/cmdline"), rdrand, generator),
      applications: applications
        .map((pid) => ({
          pid,
          random: deviceNumber(`/proc/${pid}/root/dev/random`),
          urandom: deviceNumber(`/proc/${pid}/root/dev/urandom`),
        }))
        // What ended meanwhile has no devices.
        .filter(({ pid }) => existsSync(`/proc/${pid}`)),
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

function sockets(): LiveReport["sockets"] {
  const TCP_LISTEN = "0A";
  const SO_ACCEPTCON = 0x10000;
  const inet = (protocol: "tcp" | "udp" | "raw") =>
    lines(`/proc/net/${protocol}`)
      .slice(1)
      .map((line) => {
        const fields = line.trim().split(/\s+/);
        const remote = address(fields[2]!);
        const listening = protocol === "tcp" ? fields[3] === TCP_LISTEN : remote.endsWith(":0");
        return { protocol, local: address(fields[1]!), listening, uid: Number(fields[7]) };
      });
  const unix = lines("/proc/net/unix")
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
        uid: existsSync(path) ? statSync(path).uid : 0,
      };
    });
  return [...inet("tcp"), ...inet("udp"), ...inet("raw"), ...unix];
}

function processes(): LiveReport["processes"] {
  const pids = list("/proc").filter((name) => /^\d+$/.test(name));
  return pids.flatMap((pid) => {
    try {
      return [describe(pid)];
    } catch (error) {
      // It ended while it was looked at.
      if (!["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
      return [];
    }
  });
}

function describe(pid: string): LiveReport["processes"][number] {
  const status = text(`/proc/${pid}/status`);
  const field = (name: string): string => new RegExp(`^${name}:\\s*(.*)$`, "m").exec(status)?.[1] ?? "";
  const kernelThread = field("VmSize") === "";
  const namespaces = Object.fromEntries(
    list(`/proc/${pid}/ns`).map((kind) => [kind, readlinkSync(`/proc/${pid}/ns/${kind}`)]),
  );
  const core = /^Max core file size\s+(\S+)/m.exec(text(`/proc/${pid}/limits`))?.[1] ?? "";
  return {
    pid: Number(pid),
    parent: Number(field("PPid")),
    name: field("Name"),
    executable: kernelThread ? "" : readlinkSync(`/proc/${pid}/exe`),
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
    namespaces,
    mounts: kernelThread || namespaces["mnt"] === readlinkSync("/proc/self/ns/mnt") ? null : mounts(pid),
    coreLimit: core,
    kernelThread,
  };
}

/** Whether this process has executable memory that is no file's (/proc/PID/maps, proc_pid_maps(5)). */
function codeWithoutFile(): boolean {
  return lines("/proc/self/maps").some((line) => /^\S+ ..x. \S+ \S+ \S+ *($|\[(?!vdso|vsyscall))/.test(line));
}

function files(): LiveReport["files"] {
  const paths = ["/run/caisson", ...list("/run/caisson").map((name) => `/run/caisson/${name}`)];
  return paths.map((path) => {
    const { mode, uid } = statSync(path);
    return { path, mode: mode & 0o7777, uid };
  });
}

/** Reads everything, once. Throws what reading throws: a guest that cannot look at itself says nothing. */
export function collectLive(): LiveReport {
  const config = parseGuestConfig(JSON.parse(text("/etc/caisson/guest.json")));
  const clock = "/sys/devices/system/clocksource/clocksource0";
  const running = processes();
  const drivers = list("/sys/bus").map((bus) => [bus, list(`/sys/bus/${bus}/drivers`)] as const);
  return {
    version: "caisson/live/v1",
    flavour: config.flavour,
    platform: detectPlatform(),
    release: text("/proc/sys/kernel/osrelease"),
    commandLine: text("/proc/cmdline"),
    kernelConfig: kernelConfig(),
    sysctls: Object.fromEntries(
      sysctlsFor(list("/proc/sys/net/ipv4/conf")).map(({ key }) => [
        key,
        optional(`/proc/sys/${key.replaceAll(".", "/")}`),
      ]),
    ),
    lockdown: optional("/sys/kernel/security/lockdown") ?? "unknown",
    mounts: mounts("self"),
    blockDevices: blockDevices(),
    rootMapper: rootMapper(),
    deviceNodes: deviceNodes().sort(),
    pci: pci(),
    virtio: virtio(),
    drivers: Object.fromEntries(drivers.filter(([, names]) => names.length > 0)),
    filesystems: lines("/proc/filesystems").map((line) => line.split("\t").at(-1)!),
    protocols: lines("/proc/net/protocols")
      .slice(1)
      .map((line) => line.split(/\s+/)[0]!),
    autoprobe: {
      pci: text("/sys/bus/pci/drivers_autoprobe"),
      virtio: text("/sys/bus/virtio/drivers_autoprobe"),
    },
    clock: {
      current: text(`${clock}/current_clocksource`),
      available: text(`${clock}/available_clocksource`).split(/\s+/),
    },
    random: random(
      running.filter(({ uid, kernelThread }) => uid !== 0 && !kernelThread).map(({ pid }) => pid),
    ),
    sockets: sockets(),
    processes: running,
    codeWithoutFile: codeWithoutFile(),
    files: files(),
    events: lines("/run/caisson/runtime-events.jsonl").map(
      (line) => (JSON.parse(line) as { name: string }).name,
    ),
    now: Date.now(),
    epoch: config.epoch,
    probes: probes(),
  };
}
