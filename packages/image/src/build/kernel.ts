// SPDX-License-Identifier: Apache-2.0
/**
 * The kernel: from the pinned Debian source package, our configuration fragments and the pinned toolchain to the
 * production and the development kernel, or the one that is asked for.
 *
 * Invariants: a symbol that a fragment asks for (set or not set) and that the kernel's own configuration resolves
 * otherwise fails the build; so does a resolved configuration that differs from the committed one; a kernel's bytes are
 * a function of the inputs: whether it was built alone or from the objects of the other makes no difference (compared:
 * docs/kernel.md); a kernel appears in the cache only when it is complete.
 */

import { createHash } from "node:crypto";
import {
  access,
  cp,
  link,
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
import { type Flavour, flavours } from "@caisson/vocabulary/flavours";
import { ImageError } from "../errors.ts";
import { tryLock } from "../exclusive.ts";
import { readDeb } from "../inputs/deb.ts";
import { hashFile } from "../inputs/npm-content.ts";
import { checkToolchain, removeAbandoned, run, type Toolchain } from "./toolchain.ts";

/**
 * "services" adds what contained services need (`kernel/services.config`), "volumes" to that what persistent volumes need
 * (`kernel/volumes.config`); "plain" has nothing of either.
 */
export type KernelVariant = "plain" | "services" | "volumes";

/** Fragments that a variant adds to the common ones, in this order; lines of a later one replace those before it. */
const variantFragments: Record<KernelVariant, readonly string[]> = {
  plain: [],
  services: ["services"],
  volumes: ["services", "volumes"],
};

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

/** Raise it when the steps below change what comes out. */
const recipe = 1;

const commonFragments = ["guest", "hardening", "containers", "tdx"];
/** Where the driver lies in the kernel's tree. */
const driverPlace = "drivers/virt/coco/caisson-tdx-emulation";
/** What builds it in. */
const driverSymbol = "CAISSON_TDX_EMULATION";
/** Lines of make that announce an object, for the progress display alone; measured: a whole build, and one from kept objects. */
const objects = { whole: 1837, again: 100 } as const;
/** The committed configuration of a kernel. */
const resolvedName = (variant: KernelVariant, flavour: Flavour): string =>
  variant === "plain" ? `resolved-${flavour}.config` : `resolved-${variant}-${flavour}.config`;
/** Everything that would otherwise carry the time, the user or the machine into the kernel. */
const identity = {
  KBUILD_BUILD_TIMESTAMP: "2026-11-01 00:00:00 UTC",
  KBUILD_BUILD_USER: "caisson",
  KBUILD_BUILD_HOST: "caisson",
  KBUILD_BUILD_VERSION: "1",
  SOURCE_DATE_EPOCH: "1793491200",
};

/** Symbol (without `CONFIG_`) to value: `y`, a number, a quoted string, or `n` for "is not set". */
export type KernelConfig = Map<string, string>;

/**
 * Reads a `.config` or a fragment. Errors: ImageError `kernel/fragment` for a line that is neither a symbol nor a
 * comment, and for a symbol that appears twice.
 */
export function parseConfig(text: string, name: string): KernelConfig {
  const config: KernelConfig = new Map();
  for (const [index, line] of text.split("\n").entries()) {
    const set = /^CONFIG_(\w+)=(\S.*)$/.exec(line);
    const unset = /^# CONFIG_(\w+) is not set$/.exec(line);
    const symbol = set?.[1] ?? unset?.[1];
    if (symbol === undefined && /^(#(?! CONFIG_\w+ ).*)?$/.test(line)) continue;
    if (symbol === undefined) {
      throw new ImageError(
        "kernel/fragment",
        `${name}, line ${index + 1}: '${line}' is not a configuration line`,
        {
          fix: "CONFIG_X=value, or '# CONFIG_X is not set'",
        },
      );
    }
    if (config.has(symbol)) {
      throw new ImageError(
        "kernel/fragment",
        `${name}, line ${index + 1}: CONFIG_${symbol} is already set above`,
      );
    }
    config.set(symbol, set?.[2] ?? "n");
  }
  return config;
}

/** What was asked for and resolved otherwise; `n` and absent are the same. */
export function unmetRequests(
  requested: KernelConfig,
  resolved: KernelConfig,
): { symbol: string; requested: string; resolved: string }[] {
  return [...requested]
    .map(([symbol, value]) => ({ symbol, requested: value, resolved: resolved.get(symbol) ?? "n" }))
    .filter((entry) => entry.requested !== entry.resolved);
}

/** Fails when the kernel's configuration did not follow the fragments. */
function checkRequests(requested: KernelConfig, resolved: KernelConfig, flavour: Flavour): void {
  const unmet = unmetRequests(requested, resolved);
  if (unmet.length === 0) return;
  throw new ImageError(
    "kernel/dropped",
    `${unmet.length} symbols of the ${flavour} kernel resolve otherwise`,
    {
      facts: unmet.map((entry) => [
        `CONFIG_${entry.symbol}`,
        `${entry.resolved}, although the fragments ask for ${entry.requested}`,
      ]),
      fix: "ask for what these symbols depend on, or take them out of kernel/*.config and say why in docs/kernel.md",
    },
  );
}

/** Fails when the resolved configuration is not the committed one; leaves it in the cache for whoever takes it over. */
async function checkResolved(found: string, flavour: Flavour, inputs: KernelInputs): Promise<void> {
  const name = resolvedName(inputs.variant ?? "plain", flavour);
  const committed = await readFile(join(inputs.directory, name), "utf8").catch(() => "");
  if (found === committed) return;
  const kept = join(inputs.cache, "kernel", name);
  await writeFile(kept, found);
  const [before, after] = [parseConfig(committed, name), parseConfig(found, kept)];
  const changed = [...new Set([...before.keys(), ...after.keys()])].filter(
    (symbol) => (before.get(symbol) ?? "n") !== (after.get(symbol) ?? "n"),
  );
  const shown = changed.slice(0, 20).map((symbol): [string, string] => {
    return [`CONFIG_${symbol}`, `${after.get(symbol) ?? "n"}, committed ${before.get(symbol) ?? "n"}`];
  });
  throw new ImageError("kernel/resolved", `the ${flavour} kernel's configuration is not the committed one`, {
    facts: [...shown, ["differing symbols", String(changed.length)]],
    fix: `review the difference; if it is intended: cp ${kept} kernel/${name}, and commit it`,
  });
}

/** The fragments of a kernel, in one text and parsed. */
async function readFragments(
  { directory, variant = "plain" }: Pick<KernelInputs, "directory" | "variant">,
  flavour: Flavour,
) {
  const names = [...commonFragments, flavour].map((name) => `${name}.config`);
  const text = (await Promise.all(names.map((name) => readFile(join(directory, name), "utf8")))).join("\n");
  const requested = parseConfig(text, names.join(" + "));
  let fragments = { text, requested };
  for (const name of variantFragments[variant].map((fragment) => `${fragment}.config`)) {
    const own = await readFile(join(directory, name), "utf8");
    const replaced = parseConfig(own, name);
    const others = fragments.text
      .split("\n")
      .filter((line) => !replaced.has(/^(?:# )?CONFIG_(\w+)/.exec(line)?.[1] ?? ""));
    fragments = {
      text: [...others, own].join("\n"),
      requested: new Map([...fragments.requested, ...replaced]),
    };
  }
  return fragments;
}

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

/** Hash (hex) of what all kernels have in common whose objects can be used for one another. */
export function objectsKey({ toolchain, source }: Pick<Places, "toolchain" | "source">): string {
  return sha256(JSON.stringify({ recipe, identity, toolchain: toolchain.key, source: source.sha256 }));
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

/** The kernels that are in the cache. */
export async function cachedKernels(inputs: Places & Pick<KernelInputs, "cache">): Promise<Kernels> {
  const found = await Promise.all(
    flavours.map(async (flavour) => {
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
  let kernels = await cachedKernels(inputs);
  if (missingOf(kernels).length > 0) {
    await mkdir(place, { recursive: true });
    const release = await claim(join(place, objectsKey(inputs)), inputs);
    try {
      const missing = missingOf(await cachedKernels(inputs));
      if (missing.length > 0) await buildEntries(place, missing, inputs);
      kernels = await cachedKernels(inputs);
    } finally {
      await release();
    }
    if (missingOf(kernels).length > 0) throw new Error(`${place} cannot be read back`);
  }
  for (const flavour of wanted) {
    const config = join(dirname(kernels.get(flavour)!.image), `config-${flavour}`);
    await checkResolved(await readFile(config, "utf8"), flavour, inputs);
  }
  return new Map([...kernels].filter(([flavour]) => wanted.includes(flavour)));
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
      await mkdir(entries[index]!, { recursive: true });
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

type ObjectsInputs = Pick<KernelInputs, "toolchain" | "source" | "cache" | "variant" | "signal">;

/** Where the objects of the last kernel of a variant from this source are kept, and beside them the SHA-256 of the archive. */
export const objectsArchive = (inputs: ObjectsInputs, variant: KernelVariant = "plain"): string =>
  join(inputs.cache, "kernel", `${objectsKey(inputs)}.${variant}.objects.tar.zst`);

/**
 * Gives the directory WORK the kept objects as `objects.tar.zst`: those of this variant, or else of another one. False
 * when there are none, or when they are not what was kept.
 */
export async function takeObjects(work: string, inputs: ObjectsInputs): Promise<boolean> {
  const own = inputs.variant ?? "plain";
  const others = (Object.keys(variantFragments) as KernelVariant[]).filter((variant) => variant !== own);
  const taken = join(work, "objects.tar.zst");
  for (const archive of [own, ...others].map((variant) => objectsArchive(inputs, variant))) {
    try {
      // Its own name for it, because another checkout's build may remove them.
      await link(archive, taken);
      if ((await hashFile(taken)) === (await readFile(`${archive}.sha256`, "utf8"))) return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
    await rm(taken, { force: true });
  }
  return false;
}

/**
 * Unpacks kept objects to `WORK/out`; says whether there were any. make compiles what is older than its source or was
 * compiled for another configuration: the source's files have the dates of the tarball, those of the driver are new.
 */
async function unpackObjects(work: string, inputs: ObjectsInputs): Promise<boolean> {
  if (!(await takeObjects(work, inputs))) return false;
  const { toolchain, signal } = inputs;
  const inside = { binds: { "/scratch": work }, cwd: "/scratch", signal };
  await run(toolchain, ["tar", "--zstd", "-xf", "objects.tar.zst", "--no-same-owner"], inside);
  await rm(join(work, "objects.tar.zst"));
  return true;
}

/** What is linked from the objects: made again for every kernel. */
const linked = [
  "vmlinux*",
  ".tmp_vmlinux*",
  "arch/x86/boot/bzImage",
  "arch/x86/boot/*.bin*",
  "arch/x86/boot/compressed/vmlinux*",
];

/** Keeps the objects for the next kernel, and removes those from other sources. */
async function keepObjects(work: string, inputs: ObjectsInputs): Promise<void> {
  const { toolchain, signal, variant } = inputs;
  const inside = { binds: { "/scratch": work }, cwd: "/scratch", signal };
  const left = linked.map((name) => `--exclude=out/${name}`);
  await run(toolchain, ["tar", "--zstd", ...left, "-cf", "kept", "out"], inside);
  const archive = objectsArchive(inputs, variant);
  const digest = await hashFile(join(work, "kept"));
  await rm(`${archive}.sha256`, { force: true });
  await rename(join(work, "kept"), archive);
  await writeFile(`${archive}.sha256`, digest);
  const place = dirname(archive);
  for (const name of await readdir(place)) {
    const isOther = /^[0-9a-f]{64}\.\w+\.objects\./.test(name) && !name.startsWith(objectsKey(inputs));
    if (isOther) await rm(join(place, name), { force: true });
  }
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
