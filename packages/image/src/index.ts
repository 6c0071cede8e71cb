/** Spec → lock → packages → kernel → root file system → verity → manifest, deterministically. */

export { sourceDate } from "./assemble.ts";
export {
  type BuildOptions,
  type BuildProgress,
  type Built,
  build,
  imageDirectory,
} from "./build.ts";
export { commandLine, commandLineTokens, type Flavour } from "./cmdline.ts";
export { ImageError, type ImageErrorCode } from "./errors.ts";
export { cacheDirectory, type FetchProgress } from "./fetch.ts";
export {
  checkLock,
  createLock,
  formatLock,
  type Lock,
  lockPath,
  parseLock,
  readLock,
  writeLock,
} from "./lock.ts";
export { type Artefact, formatManifest, type Manifest } from "./manifest.ts";
export { findMirrors, type Mirrors } from "./mirror.ts";
export { npmPackages } from "./npm.ts";
export { npmRoots, recipe } from "./recipe.ts";
export { readSpec, type Spec } from "./spec.ts";
