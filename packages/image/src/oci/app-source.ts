/** The application's OCI image, from whichever source the spec names. */

import type { DirectoryNode } from "../build/tree.ts";
import type { Spec } from "../inputs/spec.ts";
import { nodeImage } from "./node-image.ts";
import type { OciImage } from "./oci.ts";
import { openImage, type PinnedImages } from "./open.ts";

/**
 * `root` is the image around the application, `lock` says what tags mean, `cache` is the cache directory.
 * Errors: ImageError `lock/stale`, `oci/…`, `archive/…`, `fetch/…`, `app/directory`.
 */
export async function readApplication(
  { app: { source } }: Spec,
  root: { readonly tree: DirectoryNode },
  lock: PinnedImages,
  cache: string,
): Promise<OciImage> {
  switch (source.kind) {
    case "image":
      return openImage(source.reference, lock, { cache, environment: process.env });
    case "node":
      return nodeImage(source.entry, root);
  }
}
