/**
 * The system calls that Node lacks, from the small native addon `native/syscalls.c`.
 * Every function throws an `Error` whose `code` is the errno name (`EPERM`) when the kernel refuses.
 */
import { createRequire } from "node:module";

export interface Syscalls {
  /** mount(2). `flags` is an or of `MS`; `data` is the file system's option string. */
  mount(source: string, target: string, type: string, flags: number, data: string): void;
  /** umount2(2) with flags 0. */
  umount(target: string): void;
  /** clock_settime(2) of CLOCK_REALTIME, in milliseconds since 1970 (fractions allowed). */
  clockSettime(ms: number): void;
  /** Slews the clock by `ms` (adjtimex(2) ADJ_OFFSET_SINGLESHOT, at most ±500 ms a call). */
  adjtime(ms: number): void;
  /** sync(2), then reboot(2): never returns when the kernel obeys. */
  powerOff(): void;
  /** One value of 8 bytes from RDRAND or RDSEED; undefined when the instruction is missing or ran dry. */
  cpuRandom(instruction: "rdrand" | "rdseed"): bigint | undefined;
  /** waitpid(2) with WNOHANG for one process: its exit status (or 128 + signal), undefined while it runs. */
  reap(pid: number): number | undefined;
  /** prlimit(2) on this process, soft and hard limit alike. */
  setLimit(resource: "core" | "nofile", value: number): void;
  /** fsync(2) of a directory or file by path. */
  sync(path: string): void;
}

/** Flags of mount(2), include/uapi/linux/mount.h. */
export const MS = { rdonly: 1, nosuid: 2, nodev: 4, noexec: 8, remount: 32, bind: 4096 } as const;

/** Loads the addon from beside the bundle. */
export function loadSyscalls(path: string): Syscalls {
  return createRequire(import.meta.url)(path) as Syscalls;
}
