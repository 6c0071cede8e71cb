// SPDX-License-Identifier: Apache-2.0
/**
 * `caisson build`: from a spec and its lock to the image directory.
 *
 * Invariants: the image is a function of the lock, the spec, the application and this repository: no clock, no path,
 * no environment, no job count enters it; every input is named by hash, in the lock or by its own content.
 */

import { join } from "node:path";
import { type Flavour, flavours } from "@caisson/vocabulary/flavours";
import { describeApplication } from "./build/application.ts";
import { bundleGuest, guestProgram } from "./build/bundle.ts";
import { buildKernels, cachedKernels, type KernelProgress, kernelVariant } from "./build/kernel.ts";
import { guestAddon, guestNode, guestServiceInit } from "./build/native.ts";
import { assembleRoot } from "./build/rootfs.ts";
import { sourcesHash } from "./build/sources.ts";
import { cachedToolchain, openToolchain, type Toolchain } from "./build/toolchain.ts";
import { nameAuthority } from "./inputs/authority.ts";
import { type FetchProgress, fetchAll } from "./inputs/fetch.ts";
import { claimIdentity, readIdentityFile } from "./inputs/identity.ts";
import { debianLicences } from "./inputs/licences.ts";
import { checkLock, type Lock, type LockedPackage } from "./inputs/lock.ts";
import type { Mirrors } from "./inputs/mirror.ts";
import { lockedAt, npmLicences, npmPackages } from "./inputs/npm.ts";
import { npmBuilders, npmRoots, recipe } from "./inputs/recipe.ts";
import type { Spec } from "./inputs/spec.ts";
import { readWorkload } from "./inputs/workload.ts";
import { readImages } from "./oci/app-source.ts";
import { assemble, inGroup, type Parts } from "./output/assemble.ts";
import type { Manifest } from "./output/manifest.ts";
import { predictMeasurements } from "./output/measurements.ts";
import { replaceOutput } from "./output/output.ts";

const repository = new URL("../../../", import.meta.url).pathname;
const packageLock = join(repository, "package-lock.json");

/** What the build is doing, for a display. */
export type BuildProgress =
  | { step: "fetch"; fetch: FetchProgress }
  | { step: "toolchain" }
  | { step: "kernel"; kernel: KernelProgress }
  | { step: "guest" }
  | { step: "application" }
  /** Bytes of the root file system. */
  | { step: "root"; done: number; total: number };

export interface BuildOptions {
  flavour: Flavour;
  /** The image directory; its parent is made when it is missing. */
  out: string;
  /** The application's first identity document, in place of the one that the spec names. */
  identity?: Uint8Array;
  /** Kernels that are compiled in the same go, for images that will follow; only the flavour's own when left out. */
  kernels?: readonly Flavour[];
  /** Compilers at a time; it changes nothing but the time. */
  jobs: number;
  mirrors: Mirrors;
  /** The cache directory; see `cacheDirectory`. */
  cache: string;
  onProgress?: (progress: BuildProgress) => void;
  signal?: AbortSignal;
}

export interface Built {
  /** The image directory. */
  directory: string;
  manifest: Manifest;
}

/** Where the images of a spec, and the states of their machines, go. */
const outputs = ({ directory }: Spec): string => join(directory, "out");

/** Where the image of a spec goes when nothing else is said: `out/<name>-<flavour>` beside the spec. */
export function imageDirectory(spec: Spec, flavour: Flavour): string {
  return join(outputs(spec), `${spec.name}-${flavour}`);
}

/**
 * Builds the image of a flavour. Errors: ImageError, of every area of this package; `build/busy` when another build of
 * this image runs, `build/disk` when there is no room; the signal's reason when aborted.
 */
export async function build(spec: Spec, lock: Lock, options: BuildOptions): Promise<Built> {
  const { out, signal, onProgress = () => {} } = options;
  const manifest = await replaceOutput(out, async (directory) => {
    const parts = await gather(spec, lock, options);
    return assemble(parts, directory, {
      onBytes: (done, total) => onProgress({ step: "root", done, total }),
      ...(signal && { signal }),
    });
  });
  return { directory: out, manifest };
}

/**
 * The kernels that images of this spec and lock would have to compile first, since the cache has none: minutes each, the
 * second of two little more.
 */
export async function kernelsToCompile(spec: Spec, lock: Lock, cache: string): Promise<Flavour[]> {
  const toolchain = await cachedToolchain(inGroup(lock, "toolchain"), cache);
  if (toolchain === undefined) return [...flavours];
  const { composition } = readWorkload(spec);
  const found = await cachedKernels({
    toolchain,
    source: { path: "", sha256: inGroup(lock, "source")[0]!.sha256 },
    directory: join(repository, "kernel"),
    variant: spec.volumes !== undefined ? "volumes" : composition === undefined ? "plain" : "services",
    cache,
  });
  return flavours.filter((flavour) => !found.has(flavour));
}

/** Fetches, compiles and reads what the image is put together from; the cache makes all but the first time short. */
async function gather(spec: Spec, lock: Lock, options: BuildOptions): Promise<Parts> {
  const { flavour, cache, jobs, mirrors, signal, onProgress = () => {} } = options;
  const cancel = { ...(signal && { signal }) };
  const workload = readWorkload(spec);
  const path = spec.app.identity;
  const identity = options.identity ?? (path === undefined ? undefined : await readIdentityFile(path));
  checkLock(spec, lock, recipe, await npmPackages(packageLock, npmRoots));
  const files = await fetchAll(lock.packages, {
    mirrors,
    cache,
    onProgress: (fetch) => onProgress({ step: "fetch", fetch }),
    ...cancel,
  });
  const archive = ({ sha256 }: LockedPackage) => files.get(sha256)!;

  onProgress({ step: "toolchain" });
  const toolchain = await openToolchain(inGroup(lock, "toolchain"), files, cache);
  signal?.throwIfAborted();

  onProgress({ step: "guest" });
  const { system, ...programs } = await guestSystem(spec, lock, toolchain, archive, options);
  signal?.throwIfAborted();

  onProgress({ step: "application" });
  const images = await readImages(workload, system, lock, cache, outputs(spec));
  const described = describeApplication(spec, workload.composition, images);
  const trusting = await nameAuthority(described.description, spec.front);
  const application = { ...described, description: await claimIdentity(trusting, identity) };
  signal?.throwIfAborted();

  const source = inGroup(lock, "source")[0]!;
  const kernels = await buildKernels({
    toolchain,
    source: { path: archive(source), sha256: source.sha256 },
    directory: join(repository, "kernel"),
    variant: kernelVariant(application.description),
    cache,
    flavours: [flavour, ...(options.kernels ?? [])],
    jobs,
    onProgress: (kernel) => onProgress({ step: "kernel", kernel }),
    ...cancel,
  });
  return {
    spec,
    lock,
    flavour,
    kernel: kernels.get(flavour)!.image,
    ...programs,
    ...(Object.values(application.description.services).some(({ init }) => init) && {
      serviceInit: await guestServiceInit(toolchain, cache),
    }),
    system,
    application,
    archive,
    sources: sourcesHash(),
    licences: await licencesOf(lock, archive, cache),
    builders: await Promise.all(npmBuilders.map((name) => lockedAt(packageLock, `node_modules/${name}`))),
    measure: predictMeasurements,
  };
}

type Archive = (locked: LockedPackage) => string;

/** The root without the application: Debian's packages, Node, the guest program, and the front where there is one. */
async function guestSystem(
  spec: Spec,
  lock: Lock,
  toolchain: Toolchain,
  archive: Archive,
  { flavour, cache, signal }: BuildOptions,
): Promise<Pick<Parts, "system" | "node" | "bundle" | "front">> {
  // The bundler is a process of its own, and works while this one compares Node with its digest.
  const [node, bundle, front] = await Promise.all([
    guestNode(lock, toolchain, cache),
    bundleGuest(guestProgram[flavour]),
    spec.front && bundleGuest("packages/front/src/main.ts"),
  ]);
  const addon = await guestAddon(node, toolchain, cache);
  signal?.throwIfAborted();
  const packages = new Map(inGroup(lock, "root").map((locked) => [locked, archive(locked)]));
  const system = await assembleRoot({ packages, node: node.content, bundle: bundle.code, addon });
  return { system, node, bundle, ...(front && { front }) };
}

/** Licences of what is in the image, or beside its root, by name. */
async function licencesOf(lock: Lock, archive: Archive, cache: string): Promise<Parts["licences"]> {
  const delivered = lock.packages.filter(({ groups }) => groups.some((group) => group !== "toolchain"));
  return new Map([...(await npmLicences(packageLock)), ...(await debianLicences(delivered, archive, cache))]);
}
