// SPDX-License-Identifier: Apache-2.0
/**
 * `caisson/live/v1`: what a running development guest says about itself. The collector is `packages/guest/src/live.ts`.
 * Strict and bounded: it comes from a machine that may be anybody's.
 */
import { flavours } from "@caisson/vocabulary/flavours";
import { platforms } from "@caisson/vocabulary/platforms";
import * as z from "zod/mini";

const text = (most = 1024) => z.string().check(z.maxLength(most));
const list = <T extends z.ZodMiniType>(item: T, most = 4096) => z.array(item).check(z.maxLength(most));
const int = z.int();
const named = <T extends z.ZodMiniType>(value: T) => z.record(text(128), value);

/** What happened when the guest tried something: the errno it got, "success", or why it could not try. */
const probe = z.union([
  z.strictObject({ errno: text(32) }),
  z.strictObject({ succeeded: z.literal(true) }),
  z.strictObject({ skipped: text() }),
]);

const mount = z.strictObject({
  source: text(),
  target: text(),
  type: text(64),
  options: list(text(256), 64),
});

export const liveReportSchema = z.strictObject({
  version: z.literal("caisson/live/v1"),
  flavour: z.enum(flavours),
  platform: z.enum(platforms),
  release: text(),
  commandLine: text(4096),
  /** From /proc/config.gz, symbols without `CONFIG_`; null when the kernel does not show it. */
  kernelConfig: z.nullable(named(text(4096))),
  /** By dotted name, those of net.ipv4.conf for each interface; null: the kernel has no such setting. */
  sysctls: named(z.nullable(text())),
  lockdown: text(256),
  mounts: list(mount),
  blockDevices: list(z.strictObject({ name: text(64), readOnly: z.boolean() })),
  /** Device-mapper name of the root, from sysfs; null when the root is not a device-mapper device. */
  rootMapper: z.nullable(text(128)),
  /** Names under /dev, without directories. */
  deviceNodes: list(text(128)),
  pci: list(z.strictObject({ address: text(32), id: text(16), driver: z.nullable(text(64)) }), 512),
  virtio: list(z.strictObject({ name: text(32), driver: z.nullable(text(64)), features: text(128) }), 64),
  /** Bus → registered drivers, from /sys/bus. */
  drivers: named(list(text(64), 512)),
  /** File systems and network protocols that the kernel knows (/proc/filesystems, /proc/net/protocols). */
  filesystems: list(text(64), 256),
  protocols: list(text(64), 256),
  /** Whether the bus binds drivers to devices that appear: "1" or "0". */
  autoprobe: z.strictObject({ pci: text(8), virtio: text(8) }),
  clock: z.strictObject({ current: text(64), available: list(text(64), 32) }),
  random: z.strictObject({
    rdrand: z.boolean(),
    rdseed: z.boolean(),
    /** The host's generator that the kernel draws from; "none". */
    generator: text(128),
    /** Bytes that a blocking read gave. */
    read: int,
    /** When the kernel said "crng init done", in seconds; null unless it did, and before PID 1. */
    seededAt: z.nullable(z.number()),
    /** What the kernel's generator was fed from at start, and whether it counted. */
    sources: list(
      z.strictObject({
        name: z.enum(["processor", "firmware", "hardware generator", "machine fork"]),
        credited: z.boolean(),
      }),
      16,
    ),
    /** What applications find as /dev/random and /dev/urandom: "major:minor", or "none". */
    applications: list(z.strictObject({ pid: int, random: text(16), urandom: text(16) })),
  }),
  sockets: list(
    z.strictObject({
      protocol: z.enum(["tcp", "udp", "unix", "raw", "packet"]),
      /** "0.0.0.0:8080", or a path. */
      local: text(256),
      listening: z.boolean(),
      uid: int,
    }),
  ),
  processes: list(
    z.strictObject({
      pid: int,
      parent: int,
      name: text(64),
      executable: text(),
      uid: int,
      gid: int,
      /** Masks in hex, as in /proc/PID/status. */
      capabilities: z.strictObject({
        effective: text(16),
        permitted: text(16),
        bounding: text(16),
        ambient: text(16),
      }),
      noNewPrivileges: z.boolean(),
      /** 0 off, 1 strict, 2 filter. */
      seccomp: int,
      /** How many filters each of its system calls goes through. */
      seccompFilters: int,
      /** Kind → inode, from /proc/PID/ns. */
      namespaces: named(text(64)),
      /** What it sees mounted, where it has a mount namespace of its own; null: what PID 1 sees, or a kernel thread. */
      mounts: z.nullable(list(mount)),
      /** By the kernel's names ("Max core file size"): a number, or "unlimited". */
      limits: named(z.strictObject({ soft: text(32), hard: text(32) })),
      /** Path in the one hierarchy of cgroup v2; "/" for the first group. */
      controlGroup: text(256),
      /** What the scheduler gives it, -20 (before others) to 19. */
      nice: z.int().check(z.minimum(-20), z.maximum(19)),
      /** Kernel threads have no memory of their own. */
      kernelThread: z.boolean(),
    }),
  ),
  /**
   * What the kernel enforces on the groups that processes are in, by path, as its files say it (memory.max, pids.max,
   * memory.oom.group, cpu.weight); null: it has no such file.
   */
  controlGroups: z.record(
    text(256),
    z.strictObject({
      memory: z.nullable(text(32)),
      pids: z.nullable(text(32)),
      killedTogether: z.nullable(text(32)),
      weight: z.nullable(text(32)),
    }),
  ),
  /** Whether PID 1 has executable memory that is not a file's; the kernel's own pages ([vdso]) do not count. */
  codeWithoutFile: z.boolean(),
  /** Whether the kernel refuses PID 1 new executable memory (prctl(2), PR_GET_MDWE). */
  newCodeForbidden: z.boolean(),
  /** Secrets and records, by path; `size` in bytes. */
  files: list(z.strictObject({ path: text(), mode: int, uid: int, size: int })),
  /** Names of measured runtime events, in order. */
  events: list(text(64), 1024),
  /** The clock (milliseconds since 1970) and the image's epoch (seconds). */
  now: z.number(),
  epoch: int,
  probes: named(probe),
});

export type LiveReport = z.infer<typeof liveReportSchema>;
export type Probe = z.infer<typeof probe>;
