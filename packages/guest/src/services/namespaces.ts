// SPDX-License-Identifier: Apache-2.0
/**
 * A service's user and network namespace, made by PID 1 before it starts and kept through its restarts, so that no
 * namespace is made later: the limit on user namespaces is then closed for everybody.
 */

import { existsSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Syscalls } from "../syscalls.ts";
import { expect } from "./orphans.ts";
import { firstId, idCount } from "./place.ts";

export interface Namespaces {
  /** Open descriptors; others find them as /proc/1/fd/N. */
  user: number;
  network: number;
}

const reapLimitMs = 5_000;

export async function makeNamespaces(syscalls: Syscalls, range: number): Promise<Namespaces> {
  const pid = syscalls.unshared();
  try {
    const map = `0 ${firstId + range * idCount} ${idCount}\n`;
    writeFileSync(`/proc/${pid}/uid_map`, map);
    writeFileSync(`/proc/${pid}/gid_map`, map);
    return {
      user: openSync(`/proc/${pid}/ns/user`, "r"),
      network: openSync(`/proc/${pid}/ns/net`, "r"),
    };
  } finally {
    process.kill(pid, "SIGKILL");
    const limit = performance.now() + reapLimitMs;
    const done = expect(pid);
    while (syscalls.reap(pid) === undefined && performance.now() < limit) await sleep(5);
    done();
  }
}

const limitFile = "/proc/sys/user/max_user_namespaces";
const unprivilegedFile = "/proc/sys/kernel/unprivileged_userns_clone";

/**
 * For the moment in which PID 1 makes `count` of them. Throws Error unless this kernel keeps the right to make one to
 * the initial namespace's root: the posture has set that, where it can be set.
 */
export function openUserNamespaces(count: number): void {
  if (!existsSync(unprivilegedFile) || readFileSync(unprivilegedFile, "utf8").trim() !== "0") {
    throw new Error("this kernel lets anybody make user namespaces (kernel.unprivileged_userns_clone)");
  }
  writeFileSync(limitFile, String(count));
}

/** Nobody makes a user namespace from now on, wherever it is asked for. Throws Error when that does not hold. */
export function closeUserNamespaces(): void {
  writeFileSync(limitFile, "0");
  if (readFileSync(limitFile, "utf8").trim() !== "0") throw new Error(`${limitFile} is not 0`);
}
