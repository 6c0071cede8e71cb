// SPDX-License-Identifier: Apache-2.0
/**
 * What npm's tarballs contain: fetched again from the registry, compared with the integrity that `package-lock.json`
 * names, read, and digested. Run as a program it writes `npm-content.json`, for a change of the lockfile.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { createGunzip } from "node:zlib";
import { readTar } from "../oci/tar.ts";
import { type LockedNpmPackage, npmPackages } from "./npm.ts";
import { contentDigest } from "./npm-content.ts";
import { npmBuilders, npmRoots } from "./recipe.ts";

const packageLock = new URL("../../../../package-lock.json", import.meta.url).pathname;
const limitMs = 300_000;

/** The digest of what the tarball of a package contains. Throws when the registry gives another tarball. */
async function tarballDigest({ name, version, integrity }: LockedNpmPackage): Promise<string> {
  const scratch = await mkdtemp(join(tmpdir(), "caisson-npm-tarball-"));
  try {
    const args = ["pack", `${name}@${version}`, "--json", "--ignore-scripts", "--pack-destination", scratch];
    const { stdout } = await promisify(execFile)("npm", args, { cwd: scratch, timeout: limitMs });
    const [packed] = JSON.parse(stdout) as { filename: string }[];
    // Older ones name a scope's tarball as its package is named.
    const tarball = join(scratch, packed!.filename.replace(/^@/, "").replaceAll("/", "-"));
    const found = `sha512-${createHash("sha512")
      .update(await readFile(tarball))
      .digest("base64")}`;
    if (found !== integrity)
      throw new Error(`the tarball of ${name} ${version} is ${found}, not ${integrity}`);
    const files = new Map<string, string>();
    for await (const entry of readTar(createReadStream(tarball).pipe(createGunzip()), tarball)) {
      if (entry.kind !== "file") continue;
      // npm takes the first directory away, whatever its name.
      const path = entry.path.slice(entry.path.indexOf("/") + 1);
      files.set(path, createHash("sha256").update(entry.content).digest("hex"));
    }
    return contentDigest(files);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** By name and version: the integrity of the tarball and the digest of its content. */
export async function tarballContents(): Promise<Record<string, { integrity: string; content: string }>> {
  const contents: Record<string, { integrity: string; content: string }> = {};
  for (const locked of await npmPackages(packageLock, [...npmRoots, ...npmBuilders])) {
    const content = await tarballDigest(locked);
    contents[`${locked.name} ${locked.version}`] = { integrity: locked.integrity, content };
  }
  return contents;
}

if (import.meta.main) {
  const record = new URL("npm-content.json", import.meta.url);
  await writeFile(record, `${JSON.stringify(await tarballContents(), null, 2)}\n`);
}
