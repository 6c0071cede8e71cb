// SPDX-License-Identifier: Apache-2.0
/**
 * A program with a small disk: a tmpfs in a mount namespace of its own, with root or without.
 *
 * The namespaces are those of the toolchain; where they cannot be had, nothing could be built either.
 */
import { spawn } from "node:child_process";
import { namespaces } from "../build/toolchain.ts";

export interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
}

/**
 * Runs `command` while a disk of `size` (as tmpfs writes it: "1m") lies over `directory`. What it leaves there is gone
 * with it. Not synchronous: a test may serve what the program asks for.
 */
export async function onSmallDisk(
  directory: string,
  size: string,
  command: readonly string[],
): Promise<Ended> {
  const mount = 'mount -t tmpfs -o "size=$1" none "$2" && shift 2 && exec "$@"';
  const flags = [...(await namespaces()), "--mount", "--fork", "--kill-child"];
  const child = spawn("unshare", [...flags, "sh", "-c", mount, "sh", size, directory, ...command]);
  const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []];
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  const status = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { status, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() };
}
