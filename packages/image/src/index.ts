// SPDX-License-Identifier: Apache-2.0
/** Spec → lock → packages → kernel → root file system → verity → manifest, deterministically. */

export { commandLine, commandLineTokens } from "./build/cmdline.ts";
export {
  type BuildOptions,
  type BuildProgress,
  type Built,
  build,
  imageDirectory,
  kernelsToCompile,
} from "./build.ts";
export { ImageError, type ImageErrorCode } from "./errors.ts";
export { cacheDirectory, type FetchProgress } from "./inputs/fetch.ts";
export {
  checkLock,
  createLock,
  formatLock,
  type Lock,
  lockPath,
  parseLock,
  readLock,
  writeLock,
} from "./inputs/lock.ts";
export { findMirrors, type Mirrors } from "./inputs/mirror.ts";
export { npmPackages } from "./inputs/npm.ts";
export { npmRoots, recipe } from "./inputs/recipe.ts";
export { readSpec, type Spec } from "./inputs/spec.ts";
export { sourceDate } from "./output/assemble.ts";
export { type Artefact, formatManifest, type Manifest, parseManifest } from "./output/manifest.ts";
