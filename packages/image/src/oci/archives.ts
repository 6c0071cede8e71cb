// SPDX-License-Identifier: Apache-2.0
/**
 * Images that a tool saved into one file: oci-archive (a layout in a tar), or docker-archive (`docker save`,
 * `podman save`, `skopeo copy … docker-archive:FILE`). Docker writes both into the same file since version 25; the
 * layout is taken then, because it has the manifest.
 */
import { hash } from "node:crypto";
import * as z from "zod";
import { ImageError } from "../errors.ts";
import { ArchiveFile, howToSave } from "./archive-file.ts";
import { type Descriptor, manifestTypes, parseDocument } from "./documents.ts";
import type { ImageSource } from "./oci.ts";
import { chooseFromLayout } from "./oci-layout.ts";
import { formatReference, parseReference } from "./reference.ts";

const savedSchema = z
  .array(
    z.object({
      Config: z.string(),
      RepoTags: z.array(z.string()).nullish(),
      Layers: z.array(z.string()).max(128),
    }),
  )
  .max(1000);
type Saved = z.infer<typeof savedSchema>[number];
const diffIdsSchema = z.object({ rootfs: z.object({ diff_ids: z.array(z.string()) }) });

/** A saved name in full, so that "redis:7" and "docker.io/library/redis:7" are the same. */
function fullName(text: string): string {
  try {
    return formatReference(parseReference(text, "/"));
  } catch (error) {
    if (error instanceof ImageError) return text;
    throw error;
  }
}

function chooseSaved(saved: readonly Saved[], path: string, tag: string | undefined): Saved {
  const fitting =
    tag === undefined
      ? saved
      : saved.filter(({ RepoTags }) =>
          (RepoTags ?? []).some((name) => name.endsWith(`:${tag}`) || fullName(name) === fullName(tag)),
        );
  const [chosen] = fitting;
  if (chosen !== undefined && new Set(fitting.map(({ Config }) => Config)).size === 1) return chosen;
  const tags = saved.flatMap(({ RepoTags }) => RepoTags ?? []);
  throw new ImageError(
    "oci/tag",
    `${path} has ${fitting.length} images${tag ? ` named '${tag}'` : ""}; one is wanted`,
    {
      facts: [["names", tags.join(", ") || "none"]],
      ...(tags.length > 0 && { fix: `name one: ${path}:${tags[0]}` }),
    },
  );
}

/**
 * A docker-archive has no manifest, so one is made: of the configuration, and of the layers as they lie there,
 * uncompressed, under their diff IDs. It follows from the image alone.
 */
async function openDockerArchive(file: ArchiveFile, tag: string | undefined): Promise<ImageSource> {
  const text = (await file.document("manifest.json")).toString("utf8");
  const saved = chooseSaved(parseDocument(text, `${file.path}: manifest.json`, savedSchema), file.path, tag);
  const config = await file.document(saved.Config);
  const { diff_ids: diffIds } = parseDocument(
    config.toString("utf8"),
    `${file.path}: ${saved.Config}`,
    diffIdsSchema,
  ).rootfs;
  if (diffIds.length !== saved.Layers.length) {
    throw new ImageError(
      "oci/config",
      `${file.path}: ${saved.Layers.length} layers, but the configuration has ${diffIds.length} diff IDs`,
    );
  }
  const names = new Map<string, string>();
  const descriptor = (mediaType: string, digest: string, name: string): Descriptor => {
    names.set(digest, name);
    return { mediaType, digest, size: file.file(name).size };
  };
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: manifestTypes[0],
      config: descriptor(
        "application/vnd.oci.image.config.v1+json",
        `sha256:${hash("sha256", config)}`,
        saved.Config,
      ),
      layers: saved.Layers.map((name, i) =>
        descriptor("application/vnd.oci.image.layer.v1.tar", diffIds[i]!, name),
      ),
    }),
  );
  const digest = `sha256:${hash("sha256", manifest)}`;
  return {
    descriptor: { mediaType: manifestTypes[0], digest, size: manifest.length },
    open: async (wanted) =>
      wanted.digest === digest ? { chunks: [manifest] } : file.file(names.get(wanted.digest)!),
  };
}

/** The one image of an archive, or the one with a tag or name. Errors: ImageError `oci/…`, `archive/…`. */
export async function openArchive(path: string, tag?: string): Promise<ImageSource> {
  const file = await ArchiveFile.open(path);
  if (file.has("oci-layout") && file.has("index.json")) {
    const text = async (name: string) => (await file.document(name)).toString("utf8");
    const documents = { marker: await text("oci-layout"), index: await text("index.json") };
    return {
      descriptor: chooseFromLayout(documents, path, tag),
      open: async ({ digest }) => file.file(`blobs/sha256/${digest.slice("sha256:".length)}`),
    };
  }
  if (file.has("manifest.json")) return openDockerArchive(file, tag);
  throw new ImageError(
    "oci/layout",
    `${path} is not a saved image: it has neither index.json nor manifest.json`,
    {
      fix: howToSave,
    },
  );
}
