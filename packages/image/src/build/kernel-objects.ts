// SPDX-License-Identifier: Apache-2.0
/**
 * The objects of the last kernel, kept for the next one, which is another flavour, variant or driver from the same source.
 *
 * Invariants: they are used when they are, byte for byte, what was kept, for the same source, toolchain and recipe alone;
 * whether they are used changes no kernel's bytes (compared: docs/kernel.md).
 */
import { createHash } from "node:crypto";
import { link, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { hashFile } from "../inputs/npm-content.ts";
import { type KernelVariant, variantFragments } from "./kernel-config.ts";
import { run, type Toolchain } from "./toolchain.ts";

/** Raise it when the steps of `kernel.ts` change what comes out. */
const recipe = 1;

/** Everything that would otherwise carry the time, the user or the machine into the kernel. */
export const identity = {
  KBUILD_BUILD_TIMESTAMP: "2026-11-01 00:00:00 UTC",
  KBUILD_BUILD_USER: "caisson",
  KBUILD_BUILD_HOST: "caisson",
  KBUILD_BUILD_VERSION: "1",
  SOURCE_DATE_EPOCH: "1793491200",
};

/** Where objects come from, and where they are kept. */
export interface ObjectsInputs {
  toolchain: Toolchain;
  source: { sha256: string };
  cache: string;
  variant?: KernelVariant;
  signal?: AbortSignal;
}

/** Hash (hex) of what all kernels have in common whose objects can be used for one another. */
export function objectsKey({ toolchain, source }: Pick<ObjectsInputs, "toolchain" | "source">): string {
  const all = JSON.stringify({ recipe, identity, toolchain: toolchain.key, source: source.sha256 });
  return createHash("sha256").update(all).digest("hex");
}

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
export async function unpackObjects(work: string, inputs: ObjectsInputs): Promise<boolean> {
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
export async function keepObjects(work: string, inputs: ObjectsInputs): Promise<void> {
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
