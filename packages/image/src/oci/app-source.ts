// SPDX-License-Identifier: Apache-2.0
/** The OCI images of a workload, from whichever source it names. */

import type { Workload } from "../inputs/workload.ts";
import { type NodeRoot, nodeImage } from "./node-image.ts";
import type { OciImage, ReadLayers } from "./oci.ts";
import { openImage, type PinnedImages } from "./open.ts";
import { formatReference } from "./reference.ts";

/**
 * The image of each service, by its name; one that several name is read once. `root` is the image around the
 * application, `lock` says what tags mean, `cache` is the cache directory, `made` is where
 * images go and no part of an application.
 * Errors: ImageError `lock/stale`, `oci/…`, `archive/…`, `fetch/…`, `app/directory`.
 */
export async function readImages(
  { images }: Workload,
  root: NodeRoot,
  lock: PinnedImages,
  cache: string,
  made: string,
): Promise<Map<string, OciImage>> {
  const read = new Map<string, OciImage>();
  const known: ReadLayers | undefined = images.size > 1 ? new Map() : undefined;
  const found = new Map<string, OciImage>();
  for (const [service, source] of images) {
    const key = source.kind === "image" ? formatReference(source.reference) : source.entry;
    const image =
      read.get(key) ??
      (source.kind === "image"
        ? await openImage(source.reference, lock, { cache, environment: process.env }, known)
        : await nodeImage(source.entry, root, made));
    read.set(key, image);
    found.set(service, image);
  }
  return found;
}
