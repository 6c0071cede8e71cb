// SPDX-License-Identifier: Apache-2.0
/**
 * `caisson.lock`: exactly which files of the Debian archive and of npm an image is made from.
 *
 * Invariants: the text is a function of the value (sorted, fixed key order, two-space JSON, one final newline), so a
 * lock that says the same is the same file; nothing in it names a mirror, so any mirror can serve it; every file is
 * named by size and SHA-256, which the archive's signature covered when the lock was written.
 */

import { readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { hex } from "@caisson/protocol/hex";
import { messageOf } from "@caisson/vocabulary/failure";
import { reasonOf } from "@caisson/vocabulary/system-error";
import * as z from "zod";
import { ImageError } from "../errors.ts";
import { type LockedImage, pinImages } from "../oci/open.ts";
import { digestForm } from "../oci/reference.ts";
import {
  type PackageStanza,
  packagesIndex,
  parsePackages,
  type Release,
  type Trust,
  verifyRelease,
} from "./archive.ts";
import { type FetchProgress, fetchAll, fetchSmall } from "./fetch.ts";
import type { ArchiveName, Mirrors } from "./mirror.ts";
import type { LockedNpmPackage } from "./npm.ts";
import { type Group, groups, type Recipe } from "./recipe.ts";
import { resolve } from "./resolve.ts";
import type { Spec } from "./spec.ts";
import { readWorkload, referencesOf } from "./workload.ts";
import { decompress } from "./xz.ts";

export interface LockedSuite {
  /** The name under `dists/`: "trixie", "trixie-security", … */
  name: string;
  archive: ArchiveName;
  /** SHA-256 of the InRelease file, hex. */
  inRelease: string;
  /** From the signed text, ISO 8601. */
  date: string;
  /** The index's own expiry, ISO 8601; a released stable suite has none. */
  validUntil?: string;
  /** Set when the index had expired and the spec's `archive.as_of` accepted it: the day it was judged by. */
  asOf?: string;
  /** Primary fingerprints, upper-case hex, of the trusted keys whose signature was verified. */
  signedBy: string[];
}

export interface LockedPackage {
  name: string;
  version: string;
  architecture: "amd64" | "all";
  /** Name of the suite (see `LockedSuite.name`) whose index listed it. */
  suite: string;
  archive: ArchiveName;
  /** Which parts of the build it is for, sorted. */
  groups: Group[];
  /** Path below the archive's base URI: "pool/main/…". */
  path: string;
  size: number;
  /** Hex. */
  sha256: string;
}

export interface Lock {
  version: 1;
  /** Sorted by name. */
  suites: LockedSuite[];
  /** Sorted by name, then version. */
  packages: LockedPackage[];
  /** Sorted by name. */
  npm: LockedNpmPackage[];
  /** What the tags of images mean, sorted; absent when the spec names none by tag. */
  images?: LockedImage[];
}

export interface LockOptions {
  recipe: Recipe;
  mirrors: Mirrors;
  /** Where indexes are kept; see `cacheDirectory`. */
  cache: string;
  /** The Debian archive keyring; see `readDebianKeyring`. */
  keyring: Uint8Array;
  npm: LockedNpmPackage[];
  /** Where credentials and mirrors of registries are looked up. */
  environment: NodeJS.ProcessEnv;
  /** The lock that this one replaces. */
  previous?: Lock | undefined;
  /** The clock. */
  now: Date;
  onProgress?: (progress: FetchProgress) => void;
}

const maximumRelease = 4 << 20;
/** A lock has about 300 bytes for each package. */
const maximumLock = 16 << 20;
const maximumIndex = 512 << 20;

/** Security updates have an archive of their own; a suite's name tells. */
const archiveOf = (suite: string): ArchiveName =>
  suite.endsWith("-security") ? "debian-security" : "debian";

const iso = (date: Date) => date.toISOString().replace(".000Z", "Z");

async function fetchRelease(suite: string, spec: Spec, options: LockOptions): Promise<Release> {
  const url = `${options.mirrors[archiveOf(suite)]}/dists/${suite}/InRelease`;
  const bytes = await fetchSmall(url, maximumRelease, "another mirror, with --mirror or CAISSON_MIRROR");
  const trust: Trust = {
    keyring: options.keyring,
    fingerprints: spec.archive.keys,
    namedIn: spec.archive.keysNamedIn,
  };
  const asOf = Object.hasOwn(spec.archive.as_of, suite) ? spec.archive.as_of[suite] : undefined;
  return verifyRelease(bytes, suite, trust, options.now, asOf);
}

/** A mirror must not lead back: an old text of a stable suite is signed, never expires, and lacks security updates. */
function refuseOlder(releases: readonly Release[], previous: Lock | undefined): void {
  for (const { suite, date } of releases) {
    const before = previous?.suites.find(({ name }) => name === suite)?.date;
    if (before === undefined || date.getTime() >= Date.parse(before)) continue;
    throw new ImageError(
      "lock/older",
      `the mirror's ${suite} is older than the one that the lock was made from`,
      {
        facts: [
          ["mirror", iso(date)],
          ["lock", before],
        ],
        fix: "another mirror, with --mirror or CAISSON_MIRROR; or remove the lock, if you want the older packages",
      },
    );
  }
}

/** The packages of every suite, from indexes that the signed texts name by hash. */
async function fetchIndexes(
  releases: readonly Release[],
  options: LockOptions,
): Promise<Map<string, PackageStanza[]>> {
  const files = releases.map((release) => ({
    ...packagesIndex(release),
    suite: release.suite,
    archive: archiveOf(release.suite),
  }));
  const paths = await fetchAll(files, options);
  const indexes = new Map<string, PackageStanza[]>();
  for (const { suite, sha256 } of files) {
    const compressed = await readFile(paths.get(sha256)!);
    const chunks: Uint8Array[] = [];
    const name = `the package index of ${suite}`;
    for await (const chunk of decompress([compressed], "xz", maximumIndex, name)) chunks.push(chunk);
    indexes.set(suite, parsePackages(Buffer.concat(chunks), suite));
  }
  return indexes;
}

/**
 * Makes the lock of a spec from what the archive and the registries have now. Errors: ImageError `lock/…`, `fetch/…`,
 * `oci/registry`, `oci/credentials`, `oci/digest`, `compose/…`.
 */
export async function createLock(spec: Spec, options: LockOptions): Promise<Lock> {
  const { recipe } = options;
  const references = referencesOf(readWorkload(spec));
  const suites = [...new Set(Object.values(recipe).flatMap((group) => group.suites))].sort();
  const unknown = Object.keys(spec.archive.as_of).find((suite) => !suites.includes(suite));
  if (unknown !== undefined) {
    throw new ImageError("spec/value", `${spec.path}: archive.as_of names '${unknown}', which is not used`, {
      facts: [["used", suites.join(", ")]],
    });
  }
  const releases = await Promise.all(suites.map((suite) => fetchRelease(suite, spec, options)));
  refuseOlder(releases, options.previous);
  const indexes = await fetchIndexes(releases, options);

  const images = await pinImages(references, options);

  const packages = new Map<string, LockedPackage>();
  for (const group of groups) {
    for (const { name, version, architecture, suite, path, size, sha256 } of resolve(
      recipe[group],
      indexes,
    )) {
      const key = `${name} ${version}`;
      const locked = packages.get(key) ?? {
        name,
        version,
        architecture,
        suite,
        archive: archiveOf(suite),
        groups: [],
        path,
        size,
        sha256,
      };
      locked.groups = [...locked.groups, group].sort();
      packages.set(key, locked);
    }
  }
  return {
    version: 1,
    suites: releases.map((release) => ({
      name: release.suite,
      archive: archiveOf(release.suite),
      inRelease: release.sha256,
      date: iso(release.date),
      ...(release.validUntil && { validUntil: iso(release.validUntil) }),
      ...(release.asOf && { asOf: iso(release.asOf) }),
      signedBy: release.signedBy,
    })),
    packages: [...packages.keys()].sort().map((key) => packages.get(key)!),
    npm: options.npm,
    ...(images.length > 0 && { images }),
  };
}

/**
 * The lock of a spec with the packages of another one, so that their images share kernel and toolchain. Nothing is
 * asked of the archive, whose signature was checked for the other; images are pinned anew. Throws ImageError
 * `lock/untrusted-key` when nobody signed the other whom this spec trusts, and what `createLock` throws for images.
 */
export async function lockLike(
  spec: Spec,
  other: Lock,
  options: Pick<LockOptions, "npm" | "environment" | "cache">,
): Promise<Lock> {
  const stranger = other.suites.find(
    ({ signedBy }) => !signedBy.some((key) => spec.archive.keys.includes(key)),
  );
  if (stranger !== undefined) {
    throw new ImageError(
      "lock/untrusted-key",
      `no key that may sign for ${spec.path} signed the other lock's ${stranger.name}`,
      {
        facts: [
          ["signed by", stranger.signedBy.join(", ")],
          ["may sign", spec.archive.keys.join(", ")],
        ],
        fix: "caisson lock without --like",
      },
    );
  }
  const { images: _, ...packages } = other;
  const images = await pinImages(referencesOf(readWorkload(spec)), options);
  return { ...packages, npm: options.npm, ...(images.length > 0 && { images }) };
}

/** The text of a lock: the same lock always gives the same bytes. */
export function formatLock(lock: Lock): string {
  return `${JSON.stringify(lock, null, 2)}\n`;
}

const archive = z.enum(["debian", "debian-security"]);
const path = z.string().regex(/^pool\/(?!.*(?:^|\/)\.{1,2}(?:\/|$))[^\s]+$/);
const schema = z.strictObject({
  version: z.literal(1),
  suites: z
    .array(
      z.strictObject({
        name: z.string(),
        archive,
        inRelease: hex(32),
        date: z.iso.datetime(),
        validUntil: z.iso.datetime().optional(),
        asOf: z.iso.datetime().optional(),
        signedBy: z.array(z.string().regex(/^[0-9A-F]{40,64}$/)).min(1),
      }),
    )
    .min(1),
  packages: z.array(
    z.strictObject({
      name: z.string().regex(/^[a-z0-9][a-z0-9.+-]*$/),
      version: z.string(),
      architecture: z.enum(["amd64", "all"]),
      suite: z.string(),
      archive,
      groups: z.array(z.enum(groups)).min(1),
      path,
      size: z.int().min(1),
      sha256: hex(32),
    }),
  ),
  npm: z.array(
    z.strictObject({
      name: z.string(),
      version: z.string(),
      integrity: z.string().regex(/^sha512-[A-Za-z0-9+/]{86}==$/),
    }),
  ),
  images: z.array(z.strictObject({ reference: z.string(), digest: z.string().regex(digestForm) })).optional(),
});

/** Checks the text of a lock; `file` is its path, for messages. Throws ImageError `lock/unreadable`. */
export function parseLock(text: string, file: string): Lock {
  const refuse = (reason: string, cause?: unknown) =>
    new ImageError("lock/unreadable", `${file}: ${reason}`, { fix: `caisson lock ${dirname(file)}`, cause });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw refuse(messageOf(error), error);
  }
  const result = schema.safeParse(value);
  if (!result.success) {
    const { path, message } = result.error.issues[0]!;
    throw refuse(`${path.map(String).join(".")}: ${message}`);
  }
  return result.data as Lock;
}

/** Where the lock of a spec is: beside it. */
export function lockPath(spec: Spec): string {
  return join(spec.directory, "caisson.lock");
}

/** Reads the lock of a spec; undefined when there is none. Throws ImageError `lock/unreadable`. */
export async function readLock(spec: Spec): Promise<Lock | undefined> {
  const file = lockPath(spec);
  try {
    const found = await stat(file);
    if (!found.isFile() || found.size > maximumLock) throw new Error("it is not a file of at most 16 MiB");
    return parseLock(await readFile(file, "utf8"), file);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (error instanceof ImageError) throw error;
    if (code === "ENOENT") return undefined;
    throw new ImageError("lock/unreadable", `cannot read ${file}: ${message}`, { cause: error });
  }
}

/** Replaces the lock of a spec, whole or not at all. */
export async function writeLock(spec: Spec, lock: Lock): Promise<void> {
  const file = lockPath(spec);
  const temporary = `${file}.${process.pid}.new`;
  try {
    await writeFile(temporary, formatLock(lock));
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw new ImageError("lock/unwritable", `cannot write ${file}: ${reasonOf(error)}`, {
      kind: "internal",
      cause: error,
    });
  }
}

/**
 * Refuses the lock of `spec` when it was made for other packages than this version of Caisson uses: one that lacks a
 * package that the recipe names, or whose npm packages are not `npm`, the installed ones. Throws ImageError `lock/stale`.
 */
export function checkLock(spec: Spec, lock: Lock, recipe: Recipe, npm: readonly LockedNpmPackage[]): void {
  const stale = (message: string) =>
    new ImageError("lock/stale", `${lockPath(spec)} is of another version of Caisson: ${message}`, {
      fix: `caisson lock ${spec.directory}`,
    });
  for (const [group, { packages }] of Object.entries(recipe)) {
    for (const name of packages) {
      const found = lock.packages.some(
        (locked) => locked.name === name && locked.groups.includes(group as Group),
      );
      if (!found) throw stale(`it has no '${name}' for ${group}`);
    }
  }
  if (JSON.stringify(lock.npm) !== JSON.stringify(npm)) {
    throw stale("the npm packages that enter the image are not those that it names");
  }
}
