// SPDX-License-Identifier: Apache-2.0
/** A machine's state beside its image: whose it is while it runs, and what of it stays. */
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, realpathSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isLocked, tryLock } from "@caisson/image/exclusive";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { Failure } from "@caisson/vocabulary/failure";

/** In a session's state while it runs: where `caisson exec` reaches the machine, and the token that it shows. */
export const execFile = "exec.json";
/** Likewise: its published ports (`PublishedPort[]`), for `caisson ps`. */
export const portsFile = "ports.json";

/** A published port of a service, and the port of this host that leads there. */
export interface PublishedPort {
  service: string;
  protocol: "tcp" | "udp";
  published: number;
  host: number;
}

/** Writes a whole file or none. */
export function writeWhole(path: string, text: string, mode = 0o644): void {
  writeFileSync(`${path}.new`, text, { mode });
  renameSync(`${path}.new`, path);
}

/** Seed of the instance whose state lies in `state`, 20 bytes in hex: made at its first start, the same ever after. */
export function instanceSeed(state: string): string {
  const path = join(state, "instance-seed");
  if (!existsSync(path)) writeWhole(path, randomBytes(20).toString("hex"), 0o600);
  return readFileSync(path, "utf8").trim();
}

/** A machine runs on this state directory. */
export class StateBusyError extends Failure<"up/busy", "unavailable"> {
  override readonly name = "StateBusyError";
  constructor(state: string) {
    super("up/busy", "unavailable", `another machine runs on ${state}`, {
      fix: "end the other one; a second machine of the same application starts from a copy of its directory",
    });
  }
}

const lockOf = (state: string): string => `state ${realpathSync(state)}`;

/** Whether a machine runs on a state directory now. */
export async function runsOn(state: string): Promise<boolean> {
  return existsSync(state) && (await isLocked(lockOf(state)));
}

/**
 * Takes a state directory for one machine, and makes it where it is missing. Two would be one instance, with the same
 * keys, and each would write over the other's policy, ports and log. Returns what gives it up. Throws StateBusyError.
 */
export async function claimState(state: string): Promise<() => Promise<void>> {
  makeDirectory(state, 0o700);
  const release = await tryLock(lockOf(state));
  if (release === undefined) throw new StateBusyError(state);
  return release;
}
