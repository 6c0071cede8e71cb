// SPDX-License-Identifier: Apache-2.0
/**
 * The root secret: 32 random bytes in one file, from which every key and the KMS's identity are derived.
 *
 * Invariants: created once, by a command that says so, and never replaced (link(2) refuses an existing name); complete
 * on disk before its name appears (fsync of file, link, fsync of directory); read only from a regular file that nobody
 * but its owner can open, in a place where nobody else can put another (writers.ts); never created beside a release
 * log, because then it was lost and new keys would silently replace old ones.
 */
import { randomBytes } from "node:crypto";
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  linkSync,
  lstatSync,
  openSync,
  readSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { deriveKmsKey } from "@caisson/protocol/derivation";
import { identityKey } from "@caisson/protocol/ed25519";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { messageOf } from "@caisson/vocabulary/failure";
import { KmsError } from "./errors.ts";
import { checkWriters } from "./writers.ts";

export const ROOT_SECRET_SIZE = 32;

/** Names inside a KMS's data directory. */
export const dataFiles = {
  rootSecret: "root-secret",
  /** While keepers' shares are awaited. */
  recoveryKey: "recovery-key",
  releaseLog: "release-log.sqlite",
} as const;

/** Where a data directory may lie. */
export interface Place {
  /** The directories above it may be anybody's: for a KMS that holds no production keys. */
  development?: boolean;
}

/**
 * The root secret of a data directory. A place without one is refused, because a directory that was not mounted and a
 * name that was mistyped look the same. Throws KmsError `root-secret/…`.
 */
export function openRootSecret(data: string, place: Place = {}): Uint8Array {
  const path = join(data, dataFiles.rootSecret);
  if (!isThere(path)) {
    throw new KmsError("root-secret/missing", `there is no root secret in ${data}`, {
      fix: isThere(join(data, dataFiles.releaseLog))
        ? "caisson kms restore, from a backup: the release log shows that there was one"
        : "caisson kms init makes a new KMS; if there was one, look whether its volume is mounted",
    });
  }
  checkPlace(data, place);
  return readSecret(path, "caisson kms restore, from a backup");
}

/** A new root secret where there is none, and no release log of a lost one. Throws KmsError `root-secret/…`. */
export function createRootSecret(data: string, place: Place = {}): void {
  if (isThere(join(data, dataFiles.releaseLog)) && !isThere(join(data, dataFiles.rootSecret))) {
    throw new KmsError("root-secret/missing", `${data} holds a release log, but its root secret is gone`, {
      fix: "caisson kms restore, from a backup; a new secret would give every application other keys",
    });
  }
  storeRootSecret(data, randomBytes(ROOT_SECRET_SIZE), place);
}

/** The identity key of a data directory's root secret, hex. */
export function kmsIdentity(data: string, place: Place = {}): string {
  return identityKey(deriveKmsKey(openRootSecret(data, place), "identity")).publicKey.toHex();
}

/** Throws KmsError "root-secret/exists" where there is one. */
export function refuseRootSecret(data: string): void {
  const path = join(data, dataFiles.rootSecret);
  if (isThere(path)) throw exists(path);
}

const exists = (path: string) =>
  new KmsError("root-secret/exists", `${path} is there already and is never overwritten`);

/** Writes a root secret into a directory that has none. Throws KmsError "root-secret/exists". */
export function storeRootSecret(data: string, secret: Uint8Array, place: Place = {}): void {
  storeSecret(data, dataFiles.rootSecret, secret, place);
}

/**
 * The secret key (32 bytes) of a recovery into `data`, to which keepers seal their shares; made when there is none. Nobody
 * else can have put it there. Throws KmsError `root-secret/permissions`, `root-secret/malformed`.
 */
export function openRecoveryKey(data: string): Uint8Array {
  const path = join(data, dataFiles.recoveryKey);
  if (!isThere(path)) storeSecret(data, dataFiles.recoveryKey, randomBytes(ROOT_SECRET_SIZE));
  checkPlace(data);
  return readSecret(path, `remove it, and have all keepers seal again`);
}

function storeSecret(data: string, name: string, secret: Uint8Array, place?: Place): void {
  makeDirectory(data, 0o700);
  checkPlace(data, place);
  const path = join(data, name);
  const temporary = `${path}.${randomBytes(8).toString("hex")}`;
  const file = openSync(temporary, "wx", 0o600);
  try {
    writeSync(file, secret);
    fsyncSync(file);
    linkSync(temporary, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    throw exists(path);
  } finally {
    closeSync(file);
    unlinkSync(temporary);
  }
  const directory = openSync(data, constants.O_RDONLY);
  fsyncSync(directory);
  closeSync(directory);
}

/** Who can write in the directory, or above it, can put another secret and another log there. */
function checkPlace(data: string, { development = false }: Place = {}): void {
  checkWriters(data, { code: "root-secret/permissions", parents: !development });
}

/**
 * Whether something lies there. A place that cannot be looked into is not an empty one: who believed that would make another
 * secret. Throws KmsError "root-secret/permissions".
 */
function isThere(path: string): boolean {
  try {
    return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch (error) {
    throw new KmsError("root-secret/permissions", `${dirname(path)} cannot be looked into`, {
      facts: [
        ["found", messageOf(error)],
        ["expected", `a directory of this user, ${process.geteuid?.()}`],
      ],
      fix: "run this as the user whose directory it is, or give it to this one (chown -R)",
    });
  }
}

/** A file that holds a secret; `otherwise` is what to do where it does not. */
function readSecret(path: string, otherwise: string): Uint8Array {
  let file: number;
  try {
    // A pipe would be waited for.
    file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ELOOP") throw error;
    throw new KmsError("root-secret/permissions", `${path} is a symbolic link`);
  }
  try {
    const stat = fstatSync(file);
    if (!stat.isFile() || stat.uid !== process.getuid?.() || (stat.mode & 0o077) !== 0) {
      throw new KmsError("root-secret/permissions", `${path} can be opened by others`, {
        facts: [
          ["found", `mode ${(stat.mode & 0o7777).toString(8)}, owner ${stat.uid}`],
          ["expected", `a regular file, mode 600, owner ${process.getuid?.()}`],
        ],
        fix: `chmod 600 ${path}, and ask who read it before`,
      });
    }
    const secret = new Uint8Array(ROOT_SECRET_SIZE);
    if (stat.size !== ROOT_SECRET_SIZE || readSync(file, secret) !== ROOT_SECRET_SIZE) {
      throw new KmsError("root-secret/malformed", `${path} has ${stat.size} bytes, not ${ROOT_SECRET_SIZE}`, {
        fix: otherwise,
      });
    }
    return secret;
  } finally {
    closeSync(file);
  }
}
