// SPDX-License-Identifier: Apache-2.0
/**
 * Imports OCI images into a tree: image-spec 1.1, and Docker's images.
 *
 * Invariants: every blob is checked against the size and digest that named it, and every layer against its diff ID,
 * before the tree is handed out; a layer that was read with another image is not read again; of an index, linux/amd64
 * is taken. The whole image may unpack to 16 GiB; where layers have a directory to be unpacked into, only the names of
 * files are held in memory.
 */
import { createHash } from "node:crypto";
import type { DirectoryNode, FileContent, FileNode } from "../build/tree.ts";
import { ImageError } from "../errors.ts";
import { decompress } from "../inputs/xz.ts";
import { type Blob, type Chunks, type OpenBlob, readDocument, verified } from "./blobs.ts";
import {
  chooseImage,
  type Descriptor,
  type ImageManifest,
  layerTypes,
  type OciConfig,
  parseConfig,
  parseIndexOrManifest,
} from "./documents.ts";
import { checkDiffId, readLayer, removeDamaged, storeLayer } from "./layer-store.ts";
import { type KeepContent, LayeredTree, type OciChange } from "./layers.ts";
import { type TarItem, tarItems } from "./tar-format.ts";

export interface ImageDescription {
  /** "sha256:…" of the manifest. */
  digest: string;
  config: OciConfig;
}

export interface OciImage extends ImageDescription {
  tree: DirectoryNode;
  /** Of what is in the tree; in the order of `walk`. */
  changes: OciChange[];
}

/** Where an image is read from. */
export interface ImageSource {
  /** Of a manifest, or of an index with one for linux/amd64. */
  descriptor: Descriptor;
  open: OpenBlob;
}

/** A whole image, unpacked; in memory it may be smaller. */
const maximumImage = 16 * 2 ** 30;
const maximumInMemory = 2 ** 31;
const maximumIndexDepth = 3;

/** Follows indexes to a manifest. */
async function readManifest({
  descriptor,
  open,
}: ImageSource): Promise<{ digest: string; manifest: ImageManifest }> {
  for (let depth = 0; depth <= maximumIndexDepth; depth++) {
    const text = await readDocument(descriptor, open);
    const document = parseIndexOrManifest(text, descriptor.mediaType, descriptor.digest);
    if ("manifest" in document) return { digest: descriptor.digest, manifest: document.manifest };
    descriptor = chooseImage(document.index, descriptor.digest);
  }
  throw new ImageError("oci/layout", `${descriptor.digest}: indexes are nested too deeply`);
}

/** Manifest and configuration. */
async function readHead(source: ImageSource) {
  const { digest, manifest } = await readManifest(source);
  const text = await readDocument(manifest.config, source.open);
  return { digest, manifest, ...parseConfig(text, manifest.config.digest, manifest.layers.length) };
}

/** What an image says of itself; no layer is read. Errors: ImageError `oci/…`; whatever `open` throws. */
export async function describeSource(source: ImageSource): Promise<ImageDescription> {
  const { digest, config } = await readHead(source);
  return { digest, config };
}

/** Contents stay where they lie, at `place`; each is hashed on the way. */
const keepPlace =
  (place: NonNullable<Blob["place"]>): KeepContent =>
  async (item): Promise<FileContent | Uint8Array> => {
    if (item.size === 0) return new Uint8Array(0);
    const hash = createHash("sha256");
    for await (const chunk of item.data()) hash.update(chunk);
    return {
      path: place.path,
      size: item.size,
      offset: place.offset + item.offset,
      sha256: hash.digest("hex"),
    };
  };

const keepInMemory: KeepContent = async (item) => Buffer.concat(await Array.fromAsync(item.data()));

/** The bytes of a compressed layer, unpacked; fails when something follows the compressed stream. */
async function* unpacked(
  descriptor: Descriptor,
  open: OpenBlob,
  limit: number,
  name: string,
): AsyncGenerator<Uint8Array> {
  const { chunks } = await open(descriptor);
  let isWhole = false;
  async function* blob() {
    yield* verified(descriptor, chunks);
    isWhole = true;
  }
  yield* decompress(blob(), layerTypes[descriptor.mediaType]!, limit, name);
  if (!isWhole) throw new ImageError("oci/digest", `${name} goes on after the end of its compressed stream`);
}

/** The archive of a layer, checked when it was read to its end, and where it stays. */
async function openLayer(
  descriptor: Descriptor,
  diffId: string,
  { open, layers, limit }: { open: OpenBlob; layers: string | undefined; limit: number },
): Promise<{ chunks: Chunks; keep: KeepContent; name: string; stored?: string }> {
  const compression = layerTypes[descriptor.mediaType];
  if (compression === undefined) {
    throw new ImageError("oci/media-type", `the layer ${descriptor.digest} is a '${descriptor.mediaType}'`, {
      facts: [["supported", Object.keys(layerTypes).join(", ")]],
    });
  }
  const name = `the layer ${descriptor.digest}`;
  if (compression === "none") {
    const { chunks, place } = await open(descriptor);
    return {
      chunks: checkDiffId(decompress(verified(descriptor, chunks), "none", limit, name), diffId, name),
      keep: place === undefined ? keepInMemory : keepPlace(place),
      name,
    };
  }
  const bytes = () => unpacked(descriptor, open, limit, name);
  if (layers === undefined) return { chunks: checkDiffId(bytes(), diffId, name), keep: keepInMemory, name };
  const path = await storeLayer(layers, diffId, async () => bytes(), name);
  return {
    chunks: readLayer(path, diffId, name),
    keep: keepPlace({ path, offset: 0 }),
    name,
    stored: path,
  };
}

/** A layer that was read whole: its entries with the contents of files, and how many bytes it unpacks to. */
interface ReadLayer {
  entries: (readonly [item: TarItem, content: FileNode["content"] | undefined])[];
  size: number;
}

/** Layers by their diff ID: images that have a base in common read it once. */
export type ReadLayers = Map<string, ReadLayer>;

/** An item without the buffer that its header came in. */
const alone = (item: TarItem): TarItem => ({
  ...item,
  path: new Uint8Array(item.path),
  link: new Uint8Array(item.link),
});

/**
 * Imports an image. `layers` is the directory into which compressed layers are unpacked, to stay there; without it
 * their files are held in memory. `known` has layers of other images, and gets those of this one.
 * Errors: ImageError `oci/…`, `archive/…`, `fetch/disk`; whatever `open` throws.
 */
export async function importImage(
  source: ImageSource,
  layers?: string,
  known?: ReadLayers,
): Promise<OciImage> {
  const head = await readHead(source);
  // A layer that lay damaged in the cache is unpacked anew, and the tree begun again: once for each, at most.
  for (let left = head.manifest.layers.length; ; left--) {
    const image = await readImage(head, source.open, { layers, known, mayRepeat: left > 0 });
    if (image !== undefined) return image;
  }
}

/** The image; undefined where a stored layer was damaged, is gone now, and `mayRepeat`. */
async function readImage(
  { digest, manifest, config, diffIds }: Awaited<ReturnType<typeof readHead>>,
  open: OpenBlob,
  {
    layers,
    known,
    mayRepeat,
  }: { layers?: string | undefined; known?: ReadLayers | undefined; mayRepeat: boolean },
): Promise<OciImage | undefined> {
  const tree = new LayeredTree();
  let limit = layers === undefined ? maximumInMemory : maximumImage;
  const count = (bytes: number): void => {
    limit -= bytes;
    if (limit < 0) throw new ImageError("archive/limit", `the image ${digest} unpacks to more than 16 GiB`);
  };
  for (const [i, layer] of manifest.layers.entries()) {
    const diffId = diffIds[i]!;
    tree.nextLayer();
    const before = known?.get(diffId);
    if (before !== undefined) {
      count(before.size);
      // Whether an entry is a file does not depend on what lies below it.
      for (const [item, content] of before.entries)
        await tree.apply(item, async () => content!, `the layer ${layer.digest}`);
      continue;
    }
    const { chunks, keep, name, stored } = await openLayer(layer, diffId, { open, layers, limit });
    const read: ReadLayer = { entries: [], size: 0 };
    const counted = async function* () {
      for await (const chunk of chunks) {
        count(chunk.length);
        read.size += chunk.length;
        yield chunk;
      }
    };
    try {
      for await (const item of tarItems(counted(), "tolerant", name)) {
        let content: FileNode["content"] | undefined;
        await tree.apply(item, async (file) => (content = await keep(file)), name);
        if (known !== undefined) read.entries.push([alone(item), content]);
      }
      known?.set(diffId, read);
    } catch (error) {
      if (mayRepeat && stored !== undefined && (await removeDamaged(stored, diffId))) return undefined;
      throw error;
    }
  }
  return { digest, config, ...tree.finish() };
}
