// SPDX-License-Identifier: Apache-2.0
/**
 * One process at a time, by a lock that the kernel keeps: a socket in the abstract namespace (unix(7)).
 *
 * It ends with its process, however that ends, so no lock is ever stale, and no process id that somebody else has by
 * now is believed. It holds within a machine, more exactly within a network namespace: who shares a directory between
 * several gets errors from the slower one, never a mixture, because everything here appears by a rename.
 */
import { hash } from "node:crypto";
import { once } from "node:events";
import { connect, createServer } from "node:net";

const pathOf = (name: string): string => `\0caisson/${hash("sha256", name)}`;

/** Takes the lock `name`. Returns what gives it up; undefined when it is taken. */
export async function tryLock(name: string): Promise<(() => Promise<void>) | undefined> {
  const server = createServer((socket) => socket.destroy()).unref();
  try {
    server.listen(pathOf(name));
    await once(server, "listening");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EADDRINUSE") return undefined;
    throw error;
  }
  return () => new Promise((done) => void server.close(() => done()));
}

/** Whether somebody has the lock `name`; nobody who wants it is kept from it meanwhile. */
export async function isLocked(name: string): Promise<boolean> {
  const socket = connect(pathOf(name));
  try {
    await once(socket, "connect");
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ECONNREFUSED") return false;
    throw error;
  } finally {
    socket.destroy();
  }
}

/** Whether a process with this id exists, whoever owns it. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
