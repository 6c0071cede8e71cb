// SPDX-License-Identifier: Apache-2.0
/**
 * The toolchain: a root of its own, made only of pinned packages, in which the kernel and the guest's addon are
 * compiled and Node is stripped. What the machine has installed never matters.
 *
 * Invariants: packages are unpacked, no maintainer script runs; the root is named by the hashes of its packages and
 * appears under that name only when it is whole; nothing is compiled in a root that is not as it was unpacked; a
 * command sees the root, the directories it was given, /dev/null, an empty /tmp, its own /proc and a fixed environment,
 * and neither the network nor other processes; it dies with its caller.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash, hash } from "node:crypto";
import { closeSync, openSync, writeSync } from "node:fs";
import {
  copyFile,
  lstat,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { ImageError } from "../errors.ts";
import { isRunning } from "../exclusive.ts";
import { readDeb } from "../inputs/deb.ts";
import type { LockedPackage } from "../inputs/lock.ts";
import { extract } from "./extract.ts";

export interface Toolchain {
  /** The directory that becomes `/`. */
  root: string;
  /** Hex hash of the package set (and of how it is laid out). */
  key: string;
}

/** Where a directory of the machine can appear inside. */
export type MountPoint = "/scratch" | "/source" | "/headers";

export interface RunOptions {
  /** Directories of the machine by the place where the command sees them. */
  binds?: Partial<Record<MountPoint, string>>;
  /** Added to the fixed environment. */
  env?: Record<string, string>;
  /** Inside; `/` when left out. */
  cwd?: string;
  /** A file of the machine that everything the command prints is appended to. */
  log?: string;
  /** Called with each line of standard output. */
  onLine?: (line: string) => void;
  signal?: AbortSignal | undefined;
}

/** Raise it when `openToolchain` lays the root out differently. */
const layout = 1;
const mountPoints: readonly MountPoint[] = ["/scratch", "/source", "/headers"];
const devices = ["null", "zero", "urandom"];
/** Lines of a failed command that the error shows; the log has them all. */
const lastLines = 12;

/**
 * Runs as root of a new mount namespace: binds what the command may see, then becomes the command.
 * Arguments: root, working directory, pairs of source and place, `--`, command.
 *
 * In a plain chroot mounts cannot be made private beforehand (see `namespaces`). There the first one tells: when it
 * is shared with the machine outside, it goes again, and nothing else is mounted.
 */
const enter = `set -e
root=$1 directory=$2; shift 2
mount -t tmpfs tmpfs "$root/tmp"
if grep -F " $root/tmp rw" /proc/self/mountinfo | grep -q ' shared:'; then
  umount "$root/tmp"
  echo "mount: / is not a mount point, and what is mounted below it would appear outside" >&2
  exit 1
fi
mount -t proc proc "$root/proc"
for device in ${devices.join(" ")}; do mount --bind "/dev/$device" "$root/dev/$device"; done
while [ "$1" != -- ]; do mount --bind "$1" "$root$2"; shift 2; done
shift
exec chroot "$root" /usr/bin/env --unset=PWD --chdir="$directory" "$@"`;

/** What every command gets; dates and names that end up in outputs are constant. */
const environment = {
  PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
  HOME: "/",
  LC_ALL: "C",
  TZ: "UTC",
  TMPDIR: "/tmp",
};

function toolchainKey(packages: readonly LockedPackage[]): string {
  const hashes = packages.map(({ sha256 }) => sha256).sort();
  return createHash("sha256")
    .update(JSON.stringify({ layout, packages: hashes }))
    .digest("hex");
}

const exists = (path: string) =>
  stat(path).then(
    () => true,
    () => false,
  );

/** Where the digest of a root is kept: beside it. */
const recordOf = (root: string) => `${root}.sha256`;

/** The root made of `packages` if it is in the cache. */
export async function cachedToolchain(
  packages: readonly LockedPackage[],
  cache: string,
): Promise<Toolchain | undefined> {
  const key = toolchainKey(packages);
  const root = resolve(cache, "toolchain", key);
  if (!(await exists(root)) || !(await exists(recordOf(root)))) return undefined;
  // A root that an earlier version unpacked may lack a place to mount on; what is mounted there is no part of its key.
  for (const place of mountPoints) makeDirectory(join(root, place));
  return { root, key };
}

/**
 * The root made of `packages` (the lock's group `toolchain`), from the cache or unpacked now. `files` maps the SHA-256
 * of a package to its path (what `fetchAll` returns). Errors: ImageError `archive/…` for a bad package.
 */
export async function openToolchain(
  packages: readonly LockedPackage[],
  files: ReadonlyMap<string, string>,
  cache: string,
): Promise<Toolchain> {
  const cached = await cachedToolchain(packages, cache);
  if (cached !== undefined) return cached;

  const key = toolchainKey(packages);
  const directory = join(cache, "toolchain");
  const root = resolve(directory, key);
  makeDirectory(directory);
  await removeAbandoned(directory);
  const scratch = await mkdtemp(join(directory, `${key}.${process.pid}.`));
  try {
    const part = join(scratch, "root");
    // base-files carries the links from /bin, /lib and /sbin to /usr, which the others expect.
    const ordered = [...packages].sort(
      (a, b) => Number(b.name === "base-files") - Number(a.name === "base-files") || compare(a.name, b.name),
    );
    const archives = ordered.map(({ sha256 }) => readDeb(files.get(sha256)!));
    await extract(archives, part);
    await completeRoot(part);
    await writeFile(join(scratch, "record"), await treeDigest(part));
    await rename(part, root).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error; // another build was quicker
    });
    await rename(join(scratch, "record"), recordOf(root));
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
  return { root, key };
}

const compare = (a: string, b: string) => (a < b ? -1 : Number(a > b));

/** What maintainer scripts would have done, as far as a compiler needs it, and the places to mount on. */
async function completeRoot(root: string): Promise<void> {
  await symlink("mawk", join(root, "usr/bin/awk"));
  for (const place of ["/dev", "/proc", "/tmp", ...mountPoints]) makeDirectory(join(root, place));
  for (const device of devices) await writeFile(join(root, "dev", device), "");
}

/** SHA-256, hex, of every path below `root` with its kind, the owner's permissions, and its content. */
async function treeDigest(root: string): Promise<string> {
  const sum = createHash("sha256");
  const visit = async (directory: string): Promise<void> => {
    const entries = await readdir(join(root, directory), { withFileTypes: true });
    for (const entry of entries.sort((a, b) => compare(a.name, b.name))) {
      const path = join(directory, entry.name);
      const place = join(root, path);
      const { mode } = await lstat(place);
      const content = entry.isFile()
        ? hash("sha256", await readFile(place))
        : entry.isSymbolicLink()
          ? await readlink(place)
          : "";
      sum.update(JSON.stringify([path, mode & 0o170700, content]));
      if (entry.isDirectory()) await visit(path);
    }
  };
  await visit("");
  return sum.digest("hex");
}

/** Refuses a root that is not as it was unpacked: a few seconds, before minutes of compiling. Throws `toolchain/altered`. */
export async function checkToolchain({ root }: Toolchain): Promise<void> {
  const [recorded, found] = await Promise.all([readFile(recordOf(root), "utf8"), treeDigest(root)]);
  if (recorded === found) return;
  throw new ImageError("toolchain/altered", `the toolchain in the cache is not as it was unpacked`, {
    kind: "internal",
    facts: [["root", root]],
    fix: `rm -rf ${root}, then run this again`,
  });
}

/**
 * Removes what killed runs left in `directory`: names of the form `KEY.PID.RANDOM` whose process is gone. Whoever
 * makes something there uses such a name until it is whole.
 */
export async function removeAbandoned(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const pid = /^[0-9a-f]{64}\.(\d+)\.\w+$/.exec(name)?.[1];
    if (pid === undefined || isRunning(Number(pid))) continue;
    await rm(join(directory, name), { recursive: true, force: true });
  }
}

/**
 * How unshare(1) becomes root of a mount namespace here: as root directly, as anybody else through a user namespace.
 * What is mounted in it stays in it: unshare makes `/` private, which the kernel only does to a mount point. In a plain
 * chroot `/` is none, so the mounts keep what they have, which is private where the machine outside does not share them.
 */
export async function namespaces(): Promise<string[]> {
  const user = process.getuid?.() === 0 ? [] : ["--user", "--map-root-user"];
  const mounts = await readFile("/proc/self/mountinfo", "utf8");
  const rooted = mounts.split("\n").some((line) => line.split(" ")[4] === "/");
  return [...user, ...(rooted ? [] : ["--propagation", "unchanged"])];
}

/** Starts `command` in its namespaces. */
async function start(
  toolchain: Toolchain,
  command: readonly string[],
  options: RunOptions,
): Promise<ChildProcess> {
  const { binds = {}, env = {}, cwd = "/", signal } = options;
  const pairs = Object.entries(binds).flatMap(([place, directory]) => [resolve(directory), place]);
  const unshare = [
    "unshare",
    ...(await namespaces()),
    "--mount",
    "--pid",
    "--net",
    "--ipc",
    "--uts",
    "--fork",
    "--kill-child",
  ];
  const inner = ["/bin/sh", "-c", enter, "sh", toolchain.root, cwd, ...pairs, "--", ...command];
  return spawn("setpriv", ["--pdeathsig", "KILL", ...unshare, "--", ...inner], {
    env: { ...environment, ...env },
    stdio: ["ignore", "pipe", "pipe"],
    ...(signal && { signal, killSignal: "SIGKILL" }),
  });
}

const cannotEnter = (why: string, fix: string, cause?: Error): ImageError =>
  new ImageError("toolchain/namespace", `the toolchain cannot be entered: ${why}`, {
    kind: "unsupported",
    fix,
    ...(cause && { cause }),
  });

/**
 * Runs `command` inside. Resolves when it succeeded. Errors: ImageError `toolchain/failed` with the last lines it
 * printed, `toolchain/namespace` when this machine forbids the namespaces; the signal's reason when aborted.
 */
export async function run(
  toolchain: Toolchain,
  command: readonly string[],
  options: RunOptions = {},
): Promise<void> {
  const { log, onLine, signal } = options;
  signal?.throwIfAborted();
  const sink = log === undefined ? undefined : openSync(log, "a");
  const child = await start(toolchain, command, options);
  const tail: string[] = [];
  let complaint: string | undefined;
  let unwritable: unknown;
  const listen = (stream: NodeJS.ReadableStream, each?: (line: string) => void) =>
    createInterface({ input: stream }).on("line", (line) => {
      try {
        if (sink !== undefined) writeSync(sink, `${line}\n`);
      } catch (error) {
        unwritable ??= error; // a full disk; nothing that follows could be kept
        child.kill("SIGKILL");
      }
      if (tail.push(line) > lastLines) tail.shift();
      if (/\berror\b/i.test(line)) complaint ??= line;
      each?.(line);
    });
  listen(child.stdout!, onLine);
  listen(child.stderr!);
  const status = await new Promise<number | string>((done, fail) => {
    child.once("error", fail);
    child.once("close", (code, killer) => done(code ?? killer ?? "unknown"));
  })
    .catch((error: NodeJS.ErrnoException) => {
      signal?.throwIfAborted();
      throw cannotEnter(error.message, "install util-linux (setpriv, unshare)", error);
    })
    .finally(() => {
      if (sink !== undefined) closeSync(sink);
    });
  if (unwritable !== undefined) throw unwritable;
  if (status === 0) return;
  const denied = tail.find((line) => /^(unshare|mount|chroot): /.test(line));
  if (denied !== undefined) {
    throw cannotEnter(
      denied,
      denied.includes("not a mount point")
        ? "mount --bind DIRECTORY DIRECTORY before chroot DIRECTORY, or enter it with unshare --root, systemd-nspawn or a container"
        : "run as root, or allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1)",
    );
  }
  throw new ImageError("toolchain/failed", `${command.slice(0, 3).join(" ")} failed (${status})`, {
    kind: "internal",
    facts: [
      ["first error", complaint ?? "(none printed)"],
      ["last lines", tail.join("\n")],
      ...(log === undefined ? [] : ([["log", log]] as const)),
    ],
  });
}

/** Copies an ELF file without symbols and debug information. */
export async function strip(toolchain: Toolchain, source: string, out: string): Promise<void> {
  await inScratch(out, async (work) => {
    await copyFile(source, join(work, "file"));
    await run(toolchain, ["strip", "--strip-all", "/scratch/file"], { binds: { "/scratch": work } });
    return "file";
  });
}

/** What every compilation here has; sources lie at /source. */
const compilerFlags = [
  "-std=gnu17 -O2 -Wall -Wextra -Werror -fvisibility=hidden -ffile-prefix-map=/source=.",
  "-fstack-protector-strong -fstack-clash-protection -fcf-protection=full -D_FORTIFY_SOURCE=3",
  "-Wl,-z,relro,-z,now,-z,noexecstack,--build-id=none,--strip-all",
].flatMap((line) => line.split(" "));

/**
 * Compiles one C file into a static, position-independent program, the same bytes wherever it is. Errors: ImageError
 * `toolchain/failed`; every warning is one.
 */
export async function buildStatic(
  toolchain: Toolchain,
  inputs: { source: string; out: string },
): Promise<void> {
  const source = `/source/${basename(inputs.source)}`;
  await inScratch(inputs.out, async (work) => {
    const binds = { "/scratch": work, "/source": dirname(inputs.source) };
    await run(
      toolchain,
      ["gcc", ...compilerFlags, "-fPIE", "-static-pie", source, "-o", "/scratch/program"],
      {
        binds,
      },
    );
    return "program";
  });
}

/**
 * Compiles C files into a Node addon, the same bytes wherever the sources are. `source` is the directory of the
 * files, `headers` Node's `include/node`. Errors: ImageError `toolchain/failed`; every warning is one.
 */
export async function buildAddon(
  toolchain: Toolchain,
  inputs: { source: string; headers: string; out: string },
): Promise<void> {
  const { source, headers, out } = inputs;
  const files = (await readdir(source)).filter((name) => name.endsWith(".c")).sort();
  const flags = [...compilerFlags, "-fPIC", "-shared"];
  const sources = files.map((name) => `/source/${name}`);
  await inScratch(out, async (work) => {
    const binds = { "/scratch": work, "/source": source, "/headers": headers };
    await run(toolchain, ["gcc", ...flags, "-I/headers", ...sources, "-o", "/scratch/addon.node"], { binds });
    return "addon.node";
  });
}

/** Lets `make` write a file in a directory of its own beside `out`, and gives it that name once it is complete. */
async function inScratch(out: string, make: (work: string) => Promise<string>): Promise<void> {
  const work = await mkdtemp(join(dirname(out), `.${basename(out)}-`));
  try {
    await rename(join(work, await make(work)), out);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
