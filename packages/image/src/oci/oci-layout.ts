/** Images from an OCI image layout directory: image-spec 1.1, image-layout.md. */
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { ImageError } from "../errors.ts";
import { chooseFromIndex, importImage, maximumDocument, type OciImage, parseDocument } from "./oci.ts";

async function readSmall(directory: string, name: string): Promise<string> {
  const path = join(directory, name);
  try {
    if ((await stat(path)).size > maximumDocument) throw new Error(`more than ${maximumDocument} bytes`);
    return await readFile(path, "utf8");
  } catch (error) {
    throw new ImageError(
      "oci/layout",
      `${directory} is no OCI image layout: ${name}: ${(error as Error).message}`,
      {
        fix: "app.image: a directory with oci-layout and index.json (skopeo copy … oci:DIR, docker buildx --output type=oci,tar=false)",
        cause: error,
      },
    );
  }
}

/** Imports the one image for linux/amd64 of a layout. Errors: ImageError `oci/…`, `archive/…`. */
export async function importLayout(directory: string): Promise<OciImage> {
  const layout = z.object({ imageLayoutVersion: z.literal("1.0.0") });
  parseDocument(await readSmall(directory, "oci-layout"), join(directory, "oci-layout"), layout);
  const index = join(directory, "index.json");
  const descriptor = chooseFromIndex(await readSmall(directory, "index.json"), index);
  return importImage(descriptor, async ({ digest }) => {
    const path = join(directory, "blobs", "sha256", digest.slice("sha256:".length));
    await stat(path).catch((error: Error) => {
      throw new ImageError("oci/layout", `${directory} lacks the blob ${digest}`, { cause: error });
    });
    return createReadStream(path, { highWaterMark: 1 << 20 });
  });
}
