// SPDX-License-Identifier: Apache-2.0
/**
 * The kernel: from the pinned Debian source package, our configuration fragments and the pinned toolchain to the
 * production and the development kernel, or the one that is asked for.
 *
 * Invariants: a kernel's bytes are a function of the inputs: whether it was built alone or from the objects of another
 * makes no difference (compared: docs/kernel.md); a kernel appears in the cache only when it is complete.
 */

import { createHash } from "node:crypto";
import {
  access,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
  writeFile,
} from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { AppDescription } from "@caisson/protocol/guest-config";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { type Flavour, flavours } from "@caisson/vocabulary/flavours";
import { ImageError } from "../errors.ts";
import { tryLock } from "../exclusive.ts";
import { readDeb } from "../inputs/deb.ts";
import {
  checkRequests,
  checkResolved,
  type KernelVariant,
  parseConfig,
  readFragments,
} from "./kernel-config.ts";
import { identity, keepObjects, objectsKey, unpackObjects } from "./kernel-objects.ts";
import { checkToolchain, removeAbandoned, run, type Toolchain } from "./toolchain.ts";

/** What an application needs. */
export function kernelVariant({
  services,
  volumes,
}: Pick<AppDescription, "services" | "volumes">): KernelVariant {
  if (Object.values(volumes).some(({ persistent }) => persistent !== undefined)) return "volumes";
  return Object.values(services).some(({ isolation }) => isolation === "contained") ? "services" : "plain";
}

export interface Kernel {
  /** Path of the bzImage in the cache. */
  image: string;
  /** SHA-256 of the image, hex. */
  sha256: string;
}

/** How far the build is: objects built of those expected. "wait": another process builds the same kernel. */
export interface KernelProgress {
  step: "wait" | "unpack" | "configure" | Flavour;
  done: number;
  total: number;
}

export interface KernelInputs {
  toolchain: Toolchain;
  /** The `linux-source-*` package: where it is, and its SHA-256 (hex). */
  source: { path: string; sha256: string };
  /** The repository's `kernel/`. */
  directory: string;
  /** "plain" when left out. */
  variant?: KernelVariant;
  cache: string;
  /** Which kernels; both share most objects, and together take little more time than one. */
  flavours: readonly Flavour[];
  /** Compilers at a time; it changes nothing but the time. */
  jobs: number;
  onProgress?: (progress: KernelProgress) => void;
  signal?: AbortSignal;
}

export type Kernels = ReadonlyMap<Flavour, Kernel>;
type Places = Pick<KernelInputs, "toolchain" | "source" | "directory" | "variant">;

/** Where the driver lies in the kernel's tree. */
const driverPlace = "drivers/virt/coco/caisson-tdx-emulation";
/** What builds it in. */
const driverSymbol = "CAISSON_TDX_EMULATION";
/**
 * Lines of make that announce an object, for the progress display alone; measured: a whole build, and one from kept
 * objects.
 */
const objects = { whole: 1837, again: 100 } as const;
const sha256 = (data: string | Uint8Array) => createHash("sha256").update(data).digest("hex");

/**
 * Hash (hex) of everything that decides a kernel's bytes; its cache entry is named after it. The driver counts where it
 * is built in, so that a change of it leaves the production kernel as it is.
 */
export async function kernelKey(inputs: Places, flavour: Flavour): Promise<string> {
  const { directory } = inputs;
  const { text, requested } = await readFragments(inputs, flavour);
  const built = requested.get(driverSymbol) === "y";
  // Its Kconfig names a symbol in every configuration, which every kernel carries.
  const names = (await readdir(join(directory, "driver")))
    .filter((name) => name === "Kconfig" || (built && name !== "abi.json"))
    .sort();
  const driver = await Promise.all(names.map((name) => readFile(join(directory, "driver", name), "utf8")));
  return sha256(JSON.stringify({ objects: objectsKey(inputs), flavour, text, names, driver }));
}

/** A kernel of a cache entry; undefined when it is not there, or was damaged. */
async function readKernel(entry: string, flavour: Flavour): Promise<Kernel | undefined> {
  const image = join(entry, `bzImage-${flavour}`);
  try {
    const recorded = await readFile(`${image}.sha256`, "utf8");
    if (sha256(await readFile(image)) !== recorded) return undefined;
    await access(join(entry, `config-${flavour}`));
    return { image, sha256: recorded };
  } catch {
    return undefined;
  }
}

/** The kernels that are in the cache, of all flavours or of `wanted`; each is read and compared with its hash. */
export async function cachedKernels(
  inputs: Places & Pick<KernelInputs, "cache">,
  wanted: readonly Flavour[] = flavours,
): Promise<Kernels> {
  const found = await Promise.all(
    wanted.map(async (flavour) => {
      const entry = join(inputs.cache, "kernel", await kernelKey(inputs, flavour));
      return [flavour, await readKernel(entry, flavour)] as const;
    }),
  );
  return new Map(found.flatMap(([flavour, kernel]) => (kernel === undefined ? [] : [[flavour, kernel]])));
}

/**
 * The kernels that are asked for, from the cache or built now (minutes). The log of a build is `CACHE/kernel/<key>.log`.
 * Errors: ImageError `kernel/…` and `toolchain/…`; the signal's reason when aborted.
 */
export async function buildKernels(inputs: KernelInputs): Promise<Kernels> {
  const place = join(inputs.cache, "kernel");
  const wanted = flavours.filter((flavour) => inputs.flavours.includes(flavour));
  const missingOf = (kernels: Kernels) => wanted.filter((flavour) => !kernels.has(flavour));
  let kernels = await cachedKernels(inputs, wanted);
  if (missingOf(kernels).length > 0) {
    makeDirectory(place);
    const release = await claim(join(place, objectsKey(inputs)), inputs);
    try {
      const missing = missingOf(await cachedKernels(inputs, wanted));
      if (missing.length > 0) await buildEntries(place, missing, inputs);
      kernels = await cachedKernels(inputs, wanted);
    } finally {
      await release();
    }
    if (missingOf(kernels).length > 0) throw new Error(`${place} cannot be read back`);
  }
  for (const flavour of wanted) {
    const config = join(dirname(kernels.get(flavour)!.image), `config-${flavour}`);
    await checkResolved(await readFile(config, "utf8"), flavour, inputs);
  }
  return kernels;
}

/** Builds kernels into their cache entries, each whole or not at all: its hash is what comes last. */
async function buildEntries(place: string, missing: readonly Flavour[], inputs: KernelInputs): Promise<void> {
  await checkToolchain(inputs.toolchain);
  await removeAbandoned(place);
  const work = await mkdtemp(join(place, `${objectsKey(inputs)}.${process.pid}.`));
  try {
    await mkdir(join(work, "entry"));
    const entries = await Promise.all(
      missing.map(async (name) => join(place, await kernelKey(inputs, name))),
    );
    await buildInto(work, `${entries[0]}.log`, missing, inputs);
    for (const [index, flavour] of missing.entries()) {
      makeDirectory(entries[index]!);
      for (const name of [`config-${flavour}`, `bzImage-${flavour}`, `bzImage-${flavour}.sha256`]) {
        await rename(join(work, "entry", name), join(entries[index]!, name));
      }
    }
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/**
 * Waits until no other process builds a kernel from the same source, so that none is compiled twice and the next one has
 * the objects of the one before. Returns what gives the claim up.
 */
async function claim(entry: string, { onProgress, signal }: KernelInputs): Promise<() => Promise<void>> {
  const name = `kernel ${join(await realpath(dirname(entry)), basename(entry))}`;
  for (;;) {
    signal?.throwIfAborted();
    const release = await tryLock(name);
    if (release !== undefined) return release;
    onProgress?.({ step: "wait", done: 0, total: 1 });
    await sleep(1000, undefined, signal && { signal });
  }
}

/** Unpacks, configures, then builds one after the other, each from the objects of those before. */
async function buildInto(
  work: string,
  log: string,
  missing: readonly Flavour[],
  inputs: KernelInputs,
): Promise<void> {
  const { toolchain, source, directory, jobs, onProgress = () => {}, signal } = inputs;
  const inside = { binds: { "/scratch": work }, cwd: "/scratch/linux", env: identity, log, signal };
  const make = (...words: string[]) => ["make", "O=/scratch/out", ...words];
  await rm(log, { force: true });

  onProgress({ step: "unpack", done: 0, total: 1 });
  signal?.throwIfAborted();
  await unpackSource(source.path, join(work, "linux.tar.xz"));
  await mkdir(join(work, "linux"));
  await run(
    toolchain,
    ["tar", "-xf", "/scratch/linux.tar.xz", "--strip-components=1", "--no-same-owner"],
    inside,
  );
  await addDriver(join(work, "linux"), join(directory, "driver"));
  const kept = await unpackObjects(work, inputs);

  onProgress({ step: "configure", done: 0, total: 1 });
  for (const flavour of missing) {
    const { text, requested } = await readFragments(inputs, flavour);
    await writeFile(join(work, "fragment"), text);
    await run(toolchain, make("-s", "KCONFIG_ALLCONFIG=/scratch/fragment", "allnoconfig"), inside);
    const resolved = await readFile(join(work, "out/.config"), "utf8");
    await writeFile(join(work, "entry", `config-${flavour}`), resolved);
    checkRequests(requested, parseConfig(resolved, ".config"), flavour);
    await checkResolved(resolved, flavour, inputs);
  }
  for (const [index, flavour] of missing.entries()) {
    const total = kept || index > 0 ? objects.again : objects.whole;
    let done = 0;
    const onLine = (line: string) => {
      if (/^ {2}(CC|AS|HOSTCC|LD|AR) /.test(line))
        onProgress({ step: flavour, done: Math.min(++done, total), total });
    };
    // Written anew, so that make sees that it changed.
    await writeFile(join(work, "out/.config"), await readFile(join(work, "entry", `config-${flavour}`)));
    await run(toolchain, make(`-j${jobs}`, "bzImage"), { ...inside, onLine });
    const image = await readFile(join(work, "out/arch/x86/boot/bzImage"));
    await writeFile(join(work, "entry", `bzImage-${flavour}`), image);
    await writeFile(join(work, "entry", `bzImage-${flavour}.sha256`), sha256(image));
  }
  await keepObjects(work, inputs);
}

/** The tarball inside the source package, as a file. */
async function unpackSource(path: string, tarball: string): Promise<void> {
  for await (const entry of readDeb(path)) {
    if (entry.kind !== "file" || !/^usr\/src\/linux-source-[\d.]+\.tar\.xz$/.test(entry.path)) continue;
    return writeFile(tarball, entry.content);
  }
  throw new ImageError("kernel/source", `${path} has no usr/src/linux-source-*.tar.xz`, {
    fix: "name a linux-source-* package in the lock's group 'source'",
  });
}

/** Puts the emulation driver into the tree and names it to Kconfig and make. It is built only where it is asked for. */
async function addDriver(tree: string, driver: string): Promise<void> {
  const parent = join(tree, "drivers/virt/coco");
  if (!(await stat(parent).catch(() => undefined))?.isDirectory()) {
    throw new ImageError("kernel/source", "the kernel source has no drivers/virt/coco", {
      fix: "a source package of Linux 6.16 or newer",
    });
  }
  await cp(driver, join(tree, driverPlace), { recursive: true });
  const append = async (file: string, line: string) => writeFile(join(parent, file), line, { flag: "a" });
  await append("Kconfig", `\nsource "${driverPlace}/Kconfig"\n`);
  await append("Makefile", "\nobj-$(CONFIG_CAISSON_TDX_EMULATION) += caisson-tdx-emulation/\n");
}
