// SPDX-License-Identifier: Apache-2.0
/** From a spec to an image directory: pins and builds what is missing. */

import { availableParallelism } from "node:os";
import {
  type BuildProgress,
  type Built,
  build,
  cacheDirectory,
  findMirrors,
  imageDirectory,
  type Lock,
  readLock,
  type Spec,
} from "@caisson/image";
import { readDebianKeyring } from "@caisson/image/archive";
import { checkLock, createLock, lockLike, lockPath, parseLock, writeLock } from "@caisson/image/lock";
import { packageLeftOutside } from "@caisson/image/node-image";
import { npmPackages } from "@caisson/image/npm";
import { npmRoots, recipe } from "@caisson/image/recipe";
import { readSpec } from "@caisson/image/spec";
import type { Flavour } from "@caisson/vocabulary/flavours";
import { UsageError } from "./failure.ts";
import { readTextFile } from "./passphrase-file.ts";
import { fetchDetail, formatBytes, type Progress } from "./views/progress.ts";
import { Remaining } from "./views/remaining.ts";

const packageLock = new URL("../../../package-lock.json", import.meta.url).pathname;

/** `mirror`: a Debian mirror; the environment's, or the machine's apt configuration, when undefined. */
async function mirrors(mirror: string | undefined) {
  const uri = mirror ?? process.env["CAISSON_MIRROR"];
  return findMirrors(uri === undefined ? {} : { mirror: uri });
}

/** What a person sees of a build: the step, and how far it is. */
function showBuild(progress: Progress, remaining: Remaining, event: BuildProgress): void {
  switch (event.step) {
    case "fetch":
      progress.show("fetch", fetchDetail(event.fetch));
      break;
    case "kernel": {
      const { step, done, total } = event.kernel;
      const left = remaining.left(step, done, total);
      const objects = `${step}: ${done} of about ${total} objects${left === "" ? "" : `, ${left}`}`;
      progress.show("kernel", total > 1 ? objects : step);
      break;
    }
    case "root":
      progress.show("root", `${formatBytes(event.done)} of ${formatBytes(event.total)}`);
      break;
    default:
      progress.show(event.step);
  }
}

/** The lock that a path names: the file itself, or that of a spec. */
async function otherLock(path: string): Promise<Lock> {
  if (path.endsWith(".lock")) return parseLock(readTextFile(path), path);
  const spec = await readSpec(path);
  const lock = await readLock(spec);
  if (lock !== undefined) return lock;
  throw new UsageError(`${lockPath(spec)} is missing: there is nothing to be like`, `caisson lock ${path}`);
}

/** Writes the lock of a spec with the packages of another one's. */
export async function pinLike(spec: Spec, path: string): Promise<Lock> {
  const npm = await npmPackages(packageLock, npmRoots);
  const lock = await lockLike(spec, await otherLock(path), {
    npm,
    environment: process.env,
    cache: cacheDirectory(process.env),
  });
  checkLock(spec, lock, recipe, npm);
  await writeLock(spec, lock);
  return lock;
}

/** Resolves a spec against the signed archive and writes its lock. */
export async function pin(spec: Spec, mirror: string | undefined, progress: Progress): Promise<Lock> {
  const lock = await createLock(spec, {
    recipe,
    mirrors: await mirrors(mirror),
    cache: cacheDirectory(process.env),
    keyring: await readDebianKeyring(),
    npm: await npmPackages(packageLock, npmRoots),
    environment: process.env,
    // One that cannot be read says nothing, and is what a new lock is often made for.
    previous: await readLock(spec).catch(() => undefined),
    now: new Date(),
    onProgress: (fetch) => progress.show("indexes", fetchDetail(fetch)),
  });
  await writeLock(spec, lock);
  return lock;
}

export interface PrepareOptions {
  /** The image directory (absolute); `out/<name>-<flavour>` beside the spec when undefined. */
  out?: string | undefined;
  /** Compilers at a time; one for each processor when undefined. */
  jobs?: number | undefined;
  /** Kernels that are compiled with the flavour's own; see `BuildOptions`. */
  kernels?: readonly Flavour[];
  /** As for `pin`. */
  mirror?: string | undefined;
  /** The cache directory; the environment's when undefined. */
  cache?: string | undefined;
  /** The application's first identity document, in place of the spec's. */
  identity?: Uint8Array | undefined;
  signal?: AbortSignal | undefined;
}

/** The image of a flavour, up to date with spec, lock and this repository. A spec without a lock is pinned first. */
export async function prepare(
  spec: Spec,
  flavour: Flavour,
  { out, jobs, kernels, mirror, cache, identity, signal }: PrepareOptions,
  progress: Progress,
): Promise<Built> {
  const remaining = new Remaining();
  const outside = spec.app.source.kind === "node" ? packageLeftOutside(spec.app.source.entry) : undefined;
  if (outside !== undefined) {
    process.stderr.write(
      `warning: ${outside} is imported, and stays outside of the image: name an entry beside node_modules, or a bundle (docs/application.md)\n`,
    );
  }
  try {
    const lock = (await readLock(spec)) ?? (await pin(spec, mirror, progress));
    const built = await build(spec, lock, {
      flavour,
      out: out ?? imageDirectory(spec, flavour),
      jobs: jobs ?? availableParallelism(),
      mirrors: await mirrors(mirror),
      cache: cache ?? cacheDirectory(process.env),
      onProgress: (event) => showBuild(progress, remaining, event),
      ...(kernels && { kernels }),
      ...(identity && { identity }),
      ...(signal && { signal }),
    });
    progress.done();
    return built;
  } finally {
    progress.clear();
  }
}
