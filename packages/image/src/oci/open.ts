// SPDX-License-Identifier: Apache-2.0
/** From the name of an image to what it says, or to its whole tree. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { ImageError } from "../errors.ts";
import { openArchive } from "./archives.ts";
import {
  describeSource,
  type ImageDescription,
  type ImageSource,
  importImage,
  type OciImage,
  type ReadLayers,
} from "./oci.ts";
import { openLayout } from "./oci-layout.ts";
import { formatReference, type ImageReference } from "./reference.ts";
import { openRegistry, type RegistryOptions, resolveTag } from "./registry.ts";

/** What a tag named when the lock was made. */
export interface LockedImage {
  /** As `formatReference` writes it: "docker.io/library/nginx:1.27". */
  reference: string;
  /** "sha256:…" of the index or manifest. */
  digest: string;
}

/** The part of a lock that says what tags mean. */
export interface PinnedImages {
  images?: readonly LockedImage[];
}

/** Whether the meaning of a name has to be pinned: that of a tag in a registry can change. */
const isPinned = (reference: ImageReference): boolean =>
  reference.kind === "registry" && reference.digest === undefined;

/**
 * What the tags among `references` name now, each once, sorted: for a lock. Errors: ImageError `oci/registry`,
 * `oci/credentials`, `oci/tag`, `oci/digest`.
 */
export async function pinImages(
  references: readonly ImageReference[],
  options: RegistryOptions,
): Promise<LockedImage[]> {
  const tags = new Map(references.filter(isPinned).map((one) => [formatReference(one), one] as const));
  const pinned: LockedImage[] = [];
  for (const reference of [...tags.keys()].sort()) {
    const one = tags.get(reference)!;
    if (one.kind === "registry") pinned.push({ reference, digest: await resolveTag(one, options) });
  }
  return pinned;
}

async function openLocal(path: string, tag: string | undefined): Promise<ImageSource> {
  const found = await stat(path).catch((error: Error) => {
    throw new ImageError("oci/layout", `cannot read the image ${path}: ${reasonOf(error)}`, {
      fix: "correct its name in the spec",
      cause: error,
    });
  });
  return found.isDirectory() ? openLayout(path, tag) : openArchive(path, tag);
}

async function openSource(
  reference: ImageReference,
  lock: PinnedImages,
  options: RegistryOptions,
): Promise<ImageSource> {
  if (reference.kind === "local") return openLocal(reference.path, reference.tag);
  const name = formatReference(reference);
  const digest = reference.digest ?? lock.images?.find((one) => one.reference === name)?.digest;
  if (digest === undefined) {
    throw new ImageError("lock/stale", `the lock does not say what the tag of ${name} means`, {
      fix: "caisson lock",
    });
  }
  return openRegistry({ ...reference, digest }, options);
}

/**
 * What an image says of itself; no layer is read. Errors: ImageError `lock/stale`, `oci/…`, `fetch/…`, `archive/…`.
 */
export async function describeImage(
  reference: ImageReference,
  lock: PinnedImages,
  options: RegistryOptions,
): Promise<ImageDescription> {
  return describeSource(await openSource(reference, lock, options));
}

/** An image with its tree; `known` has the layers of others. Errors: as `describeImage`. */
export async function openImage(
  reference: ImageReference,
  lock: PinnedImages,
  options: RegistryOptions,
  known?: ReadLayers,
): Promise<OciImage> {
  const source = await openSource(reference, lock, options);
  return importImage(source, join(options.cache, "layers"), known);
}
