/** The application's OCI image, from whichever source the spec names. */

import type { DirectoryNode } from "../build/tree.ts";
import type { Spec } from "../inputs/spec.ts";
import { nodeImage } from "./node-image.ts";
import type { OciImage } from "./oci.ts";
import { importLayout } from "./oci-layout.ts";
import { pullImage } from "./registry.ts";

/**
 * `root` is the image around the application, `cache` the cache directory.
 * Errors: ImageError `oci/…`, `archive/…`, `fetch/…`, `app/directory`.
 */
export async function readApplication(
  { app: { source } }: Spec,
  root: { readonly tree: DirectoryNode },
  cache: string,
): Promise<OciImage> {
  switch (source.kind) {
    case "layout":
      return importLayout(source.directory);
    case "registry":
      return pullImage(source, cache);
    case "node":
      return nodeImage(source.entry, root);
  }
}
