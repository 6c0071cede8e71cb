// SPDX-License-Identifier: Apache-2.0
/**
 * Who can put something else in a file's place: whoever may write to it, to its directory, or to any directory or
 * symbolic link on the way to it. Only the KMS's own user and root may (sshd's StrictModes asks the same of its files).
 * A directory above with the sticky bit is taken, because nobody can replace in it what is ours.
 */
import fs, { constants, lstatSync, readlinkSync, type Stats, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { KmsError, type KmsErrorCode } from "./errors.ts";

export interface WritersCheck {
  code: Extract<KmsErrorCode, `${string}/permissions`>;
  /** The way to it as well. A development KMS, which holds nothing, lies wherever there is room. */
  parents: boolean;
}

/** As many as Linux follows. */
const maximumLinks = 40;

/** Nothing where only this process's user and root can replace what lies at `path`. Throws KmsError. */
export function checkWriters(path: string, { code, parents }: WritersCheck): void {
  const last = statSync(path);
  if (!isClosed(last, 0)) throw openToOthers(path, path, last, code);
  if (!parents) return;
  for (const [place, stat] of wayTo(path)) {
    const sticky = stat.ino === last.ino && stat.dev === last.dev ? 0 : 0o1000;
    if (!isClosed(stat, sticky)) throw openToOthers(path, place, stat, code);
  }
}

/**
 * What lies at `path`, which only this process's user and root can replace; what is read is what was looked at, and all of
 * it is of one moment. Throws KmsError as `checkWriters`; Error where it is not a file, or was written meanwhile.
 */
export function readClosed(path: string, check: WritersCheck): Buffer {
  checkWriters(path, check);
  // A pipe would be waited for.
  const file = fs.openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const before = fs.fstatSync(file);
    if (!isClosed(before, 0)) throw openToOthers(path, path, before, check.code);
    if (!before.isFile()) throw new Error("it is not a regular file");
    const bytes = fs.readFileSync(file);
    const after = fs.fstatSync(file);
    if (after.size === bytes.length && after.mtimeMs === before.mtimeMs) return bytes;
    throw new Error("it was written while it was read; write it beside and rename it into place");
  } finally {
    fs.closeSync(file);
  }
}

/** Every directory and symbolic link that the kernel goes through from the root to `path`, and what lies there. */
function* wayTo(path: string): Generator<[place: string, stat: Stats]> {
  const names = resolve(path).split("/");
  let [at, links] = ["/", 0];
  yield [at, lstatSync(at)];
  while (names.length > 0) {
    const name = names.shift()!;
    const next = name === ".." ? dirname(at) : join(at, name);
    const stat = lstatSync(next);
    yield [next, stat];
    if (!stat.isSymbolicLink() || ++links > maximumLinks) {
      at = next;
      continue;
    }
    const target = readlinkSync(next);
    names.unshift(...target.split("/"));
    if (target.startsWith("/")) at = "/";
  }
}

const isOwned = (stat: Stats): boolean => stat.uid === process.getuid?.() || stat.uid === 0;

/** `sticky` is the bit that excuses its being writable. The mode of a symbolic link says nothing. */
function isClosed(stat: Stats, sticky: number): boolean {
  return isOwned(stat) && (stat.isSymbolicLink() || (stat.mode & 0o022) === 0 || (stat.mode & sticky) !== 0);
}

function openToOthers(path: string, place: string, stat: Stats, code: WritersCheck["code"]): KmsError {
  const owner = process.getuid?.();
  const message =
    place === path
      ? `${path} can be written by others`
      : `${path} can be replaced by others, who can write ${place}`;
  return new KmsError(code, message, {
    facts: [
      ["found", `mode ${(stat.mode & 0o7777).toString(8)}, owner ${stat.uid}`],
      ["expected", `not writable by group or others, owner ${owner === 0 ? "0" : `${owner} or 0`}`],
    ],
    fix: isOwned(stat)
      ? `find out who last changed ${place}, then chmod go-w ${place} (or choose another place)`
      : `run this as user ${stat.uid}, or find out what that one put there, then chown it (or choose another place)`,
  });
}
