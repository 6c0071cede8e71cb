// SPDX-License-Identifier: Apache-2.0
/** Images from an OCI image layout directory: image-spec 1.1, image-layout.md. */

import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { reasonOf } from "@caisson/vocabulary/system-error";
import * as z from "zod";
import { ImageError } from "../errors.ts";
import { chooseImage, maximumDocument, parseDocument, parseIndex } from "./documents.ts";
import type { ImageSource } from "./oci.ts";

const layoutSchema = z.object({ imageLayoutVersion: z.literal("1.0.0") });

/** The image that a layout's two documents name. Throws ImageError `oci/layout`, `oci/platform`, `oci/tag`. */
export function chooseFromLayout(
  documents: { marker: string; index: string },
  name: string,
  tag: string | undefined,
): ImageSource["descriptor"] {
  parseDocument(documents.marker, join(name, "oci-layout"), layoutSchema);
  const index = join(name, "index.json");
  return chooseImage(parseIndex(documents.index, index), index, tag);
}

async function readSmall(directory: string, name: string): Promise<string> {
  const path = join(directory, name);
  try {
    if ((await stat(path)).size > maximumDocument) throw new Error(`more than ${maximumDocument} bytes`);
    return await readFile(path, "utf8");
  } catch (error) {
    throw new ImageError(
      "oci/layout",
      `${directory} is not an OCI image layout: ${name}: ${reasonOf(error)}`,
      {
        fix: "name a directory with oci-layout and index.json (skopeo copy … oci:DIR, docker buildx --output type=oci,tar=false), or a saved archive (docker save, podman save --format oci-archive)",
        cause: error,
      },
    );
  }
}

/** The one image for linux/amd64 of a layout, or of those with a tag. Errors: ImageError `oci/…`. */
export async function openLayout(directory: string, tag?: string): Promise<ImageSource> {
  const marker = await readSmall(directory, "oci-layout");
  const index = await readSmall(directory, "index.json");
  return {
    descriptor: chooseFromLayout({ marker, index }, directory, tag),
    open: async ({ digest }) => {
      const path = join(directory, "blobs", "sha256", digest.slice("sha256:".length));
      await stat(path).catch((error: Error) => {
        throw new ImageError("oci/layout", `${directory} lacks the blob ${digest}`, { cause: error });
      });
      return { chunks: createReadStream(path, { highWaterMark: 1 << 20 }), place: { path, offset: 0 } };
    },
  };
}
