// SPDX-License-Identifier: Apache-2.0
/**
 * The system calls that Node lacks, from the small native addon in `native/`.
 * Every function throws an `Error` whose `code` is the errno name (`EPERM`) when the kernel refuses.
 */
import { createRequire } from "node:module";

export interface Syscalls {
  /** mount(2). `flags` is an or of `MS`; `data` is the file system's option string. */
  mount(source: string, target: string, type: string, flags: number, data: string): void;
  /** clock_settime(2) of CLOCK_REALTIME, in milliseconds since 1970 (fractions allowed). */
  clockSettime(ms: number): void;
  /** Slews the clock by `ms` (adjtimex(2) ADJ_OFFSET_SINGLESHOT, at most ±500 ms a call). */
  adjtime(ms: number): void;
  /** tcsetattr(3): the terminal behind this file descriptor ignores whatever is received, flow control included. */
  deafen(file: number): void;
  /** Waits, at most 2 s, until the console has sent everything, then reboot(2): never returns when the kernel obeys. */
  powerOff(): void;
  /** One value of 8 bytes from RDRAND or RDSEED; undefined when the instruction is missing or ran dry. */
  cpuRandom(instruction: "rdrand" | "rdseed"): bigint | undefined;
  /** waitpid(2) with WNOHANG for one process: its exit status (or 128 + signal), undefined while it runs. */
  reap(pid: number): number | undefined;
  /** setpriority(2): this thread and those it starts come before all others on the processor (nice -20). */
  comeFirst(): void;
  /** setrlimit(2) of RLIMIT_CORE to 0, for this process and all that it starts. */
  forbidCoreDumps(): void;
  /** prctl(2) PR_SET_MDWE: from now on no memory of this process, but of none that it starts, becomes executable. */
  forbidNewCode(): void;
  /** prctl(2) PR_GET_MDWE: whether the kernel holds this process to that. */
  newCodeForbidden(): boolean;
  /** pipe2(2): the reading and the writing end, not inherited by what this process starts. */
  pipe(): [read: number, write: number];
  /**
   * A process in a new user namespace, and in a new network namespace that belongs to it. It does nothing; whoever has
   * opened its namespaces (/proc/PID/ns) kills and reaps it.
   */
  unshared(): number;
  /** Mounts the tree at `source` on `target`, its ids mapped as in a user namespace (a descriptor); nosuid, nodev. */
  mountMapped(source: string, target: string, userNamespace: number): void;
  /** umount2(2), lazily. */
  unmount(target: string): void;
  /**
   * Starts a program in a control group (a descriptor of its directory), with three descriptors as its standard
   * streams. Returns its process id, for `reap`.
   */
  spawn(
    argv: readonly string[],
    environment: readonly string[],
    streams: readonly [number, number, number],
    controlGroup: number,
  ): number;
  /**
   * Sends netlink messages in a network namespace (a descriptor; 0: this process's) and waits until `acknowledged` of
   * them are. The Error's `code` is what the kernel answers to the first that it refuses.
   */
  netlink(protocol: number, networkNamespace: number, messages: Uint8Array, acknowledged: number): void;
  /**
   * A dm-crypt device over `sectors` (of 512 bytes) of a block device ("254:32") from the sector `start` on: AES-256-XTS
   * with a key of 64 bytes, in sectors of 4096. Returns N of `/dev/dm-N`.
   */
  cryptOpen(name: string, device: string, key: Uint8Array, start: number, sectors: number): number;
  cryptClose(name: string): void;
  /** What the kernel says of the btrfs that is mounted at `path` (BTRFS_IOC_FS_INFO). */
  btrfsInfo(path: string): BtrfsInfo;
  /** Makes its file system as large as this many bytes (BTRFS_IOC_RESIZE). */
  btrfsResize(path: string, size: number): void;
  /** Errors of its device since it was made, of all kinds together (BTRFS_IOC_GET_DEV_STATS). */
  btrfsErrors(path: string): number;
  /** Everything that was written until now, on the disk: the generation that holds it. Takes as long as the disk does. */
  btrfsCommit(path: string): Promise<bigint>;
  /** Writers of the file system wait from now on (FIFREEZE), until `thaw`. */
  freeze(path: string): void;
  thaw(path: string): void;
}

export interface BtrfsInfo {
  /** Of the transaction that runs; on a read-only mount the superblock's. */
  generation: bigint;
  /** 16 bytes. */
  fsid: Uint8Array;
  nodeSize: number;
  /** 2 is SHA-256. */
  checksumType: number;
  devices: number;
}

/** Flags of mount(2), include/uapi/linux/mount.h. */
export const MS = {
  readOnly: 1,
  nosuid: 2,
  nodev: 4,
  noexec: 8,
  remount: 32,
  noatime: 1024,
  bind: 4096,
} as const;

/** Loads the addon from beside the bundle. */
export function loadSyscalls(path: string): Syscalls {
  return createRequire(import.meta.url)(path) as Syscalls;
}
