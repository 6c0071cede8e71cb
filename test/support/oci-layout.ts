// SPDX-License-Identifier: Apache-2.0
/** OCI layouts made of archives and single files, each kept in the repository's cache under the hash of what it is made of. */
import { createHash } from "node:crypto";
import { createReadStream, existsSync, linkSync, mkdirSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs"; // biome-ignore format: one line
import { join } from "node:path";
import { type TarFile, writeTar } from "@caisson/image/tar-writer";

const cache = new URL("../../.cache/debian/", import.meta.url).pathname;

/** A file of a layer, a directory with its mode, or a link. All belong to root. */
type Content = string | Uint8Array | { directory: number } | { symlink: string };

/** An archive on disk, or files by path. */
export type Layer = string | Readonly<Record<string, Content>>;

export interface ImageParts {
  layers: readonly Layer[];
  /** The `config` of an image's configuration (image-spec, config.md). */
  config: object;
}

/** What the cache holds under `name` and the hash of `recipe`; `make` fills an empty directory when it does not. */
export async function kept(
  name: string,
  recipe: object,
  make: (directory: string) => Promise<void>,
): Promise<string> {
  const key = createHash("sha256").update(JSON.stringify(recipe)).digest("hex").slice(0, 16);
  const path = join(cache, `${name}-${key}`);
  if (existsSync(path)) return path;
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, `.${name}-`));
  try {
    await make(work);
    renameSync(work, path);
    return path;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

const sha256 = async (path: string): Promise<string> => {
  const sum = createHash("sha256");
  for await (const chunk of createReadStream(path)) sum.update(chunk as Buffer);
  return sum.digest("hex");
};

/** A file that begins as a script does, and one that begins as a program does, may be executed. */
const mode = (bytes: Uint8Array): number =>
  /^(#!|\x7fELF)/.test(Buffer.from(bytes.subarray(0, 4)).toString("latin1")) ? 0o755 : 0o644;

function* tarFiles(layer: Exclude<Layer, string>): Generator<TarFile> {
  const parents = new Set(
    Object.keys(layer)
      .flatMap(above)
      .filter((path) => layer[path] === undefined),
  );
  for (const path of [...parents].sort()) yield { path, mode: 0o755, content: "directory" };
  for (const [path, content] of Object.entries(layer)) yield tarFile(path, content);
}

function tarFile(path: string, content: Content): TarFile {
  if (typeof content === "string") return tarFile(path, Buffer.from(content));
  if (content instanceof Uint8Array) return { path, mode: mode(content), content };
  if ("symlink" in content) return { path, mode: 0o777, content };
  return { path, mode: content.directory, content: "directory" };
}

const above = (path: string): string[] =>
  path.split("/").flatMap((_, index, parts) => (index === 0 ? [] : [parts.slice(0, index).join("/")]));

/** Writes images by their tags into an empty directory. What they share is there once. */
export async function writeImages(
  directory: string,
  images: Readonly<Record<string, ImageParts>>,
): Promise<void> {
  const blobs = join(directory, "blobs/sha256");
  mkdirSync(blobs, { recursive: true });
  const made = new Map<Layer, { mediaType: string; digest: string; size: number }>();
  const put = (mediaType: string, bytes: Uint8Array) => {
    const digest = createHash("sha256").update(bytes).digest("hex");
    writeFileSync(join(blobs, digest), bytes);
    return { mediaType, digest: `sha256:${digest}`, size: bytes.length };
  };
  const json = (mediaType: string, value: object) => put(mediaType, Buffer.from(JSON.stringify(value)));
  const layerOf = async (layer: Layer) => {
    const mediaType = "application/vnd.oci.image.layer.v1.tar";
    if (typeof layer !== "string") return put(mediaType, Buffer.concat([...writeTar(tarFiles(layer))]));
    const digest = await sha256(layer);
    if (!existsSync(join(blobs, digest))) linkSync(layer, join(blobs, digest));
    return { mediaType, digest: `sha256:${digest}`, size: statSync(layer).size };
  };
  const manifests = [];
  for (const [tag, { layers, config }] of Object.entries(images)) {
    const found = [];
    for (const layer of layers) {
      const descriptor = made.get(layer) ?? (await layerOf(layer));
      made.set(layer, descriptor);
      found.push(descriptor);
    }
    const manifest = json("application/vnd.oci.image.manifest.v1+json", {
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      config: json("application/vnd.oci.image.config.v1+json", {
        architecture: "amd64",
        os: "linux",
        config,
        rootfs: { type: "layers", diff_ids: found.map(({ digest }) => digest) },
      }),
      layers: found,
    });
    manifests.push({ ...manifest, annotations: { "org.opencontainers.image.ref.name": tag } });
  }
  writeFileSync(join(directory, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  writeFileSync(join(directory, "index.json"), JSON.stringify({ schemaVersion: 2, manifests }));
}
