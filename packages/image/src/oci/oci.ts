/**
 * Imports OCI images into a tree: image-spec 1.1 (and Docker's image manifest 2.2, which differs in names only).
 *
 * Invariants: every blob is checked against the size and digest that named it, and every layer against its diff ID,
 * before the tree is handed out; of an index, linux/amd64 is taken; a layer's entry lies below real directories, never
 * behind a symlink. What an image here cannot hold is not smuggled through: setuid, setgid and sticky bits, owners
 * and extended attributes are dropped and listed in `changes`; file capabilities and device nodes are refused.
 */
import { createHash } from "node:crypto";
import * as z from "zod";
import { type DirectoryNode, directory, lookup, type Node, walk } from "../build/tree.ts";
import { ImageError } from "../errors.ts";
import { type Compression, decompress } from "../inputs/xz.ts";
import { readTar, type TarEntry } from "./tar.ts";

export interface OciConfig {
  entrypoint: string[];
  command: string[];
  environment: Record<string, string>;
  workingDirectory: string;
  /** As in the image: "" (root), "uid", "uid:gid" or names. */
  user: string;
}

/** `owner`: it was private to another user than root, and is root's now; `attribute`: it had extended attributes. */
export type Dropped = "setuid" | "setgid" | "sticky" | "owner" | "attribute";

/** Where the tree departs from the image on purpose. */
export interface OciChange {
  /** Absolute, in the image. */
  path: string;
  dropped: Dropped;
}

export interface OciImage {
  /** "sha256:…" of the manifest. */
  digest: string;
  tree: DirectoryNode;
  config: OciConfig;
  /** Of what is in the tree; in the order of `walk`. */
  changes: OciChange[];
}

/** What names a blob. */
export interface Descriptor {
  mediaType: string;
  /** "sha256:…" */
  digest: string;
  size: number;
}

/** Where blobs come from: a layout directory, a registry, or memory. They are not trusted. */
export type OpenBlob = (descriptor: Descriptor) => Promise<AsyncIterable<Uint8Array> | Iterable<Uint8Array>>;

const digestForm = z.string().regex(/^sha256:[0-9a-f]{64}$/, "only sha256 digests are supported");
const descriptorShape = { mediaType: z.string(), digest: digestForm, size: z.int().min(0) };
const platform = z.object({ os: z.string(), architecture: z.string() });

const indexSchema = z.object({
  schemaVersion: z.literal(2),
  manifests: z.array(z.object({ ...descriptorShape, platform: platform.optional() })).max(1000),
});
const manifestSchema = z.object({
  schemaVersion: z.literal(2),
  config: z.object(descriptorShape),
  layers: z.array(z.object(descriptorShape)).max(128),
});
const texts = z.array(z.string()).nullish();
const configSchema = z.object({
  os: z.string(),
  architecture: z.string(),
  rootfs: z.object({ type: z.literal("layers"), diff_ids: z.array(digestForm) }),
  config: z
    .object({
      Entrypoint: texts,
      Cmd: texts,
      Env: texts,
      WorkingDir: z.string().nullish(),
      User: z.string().nullish(),
    })
    .nullish(),
});

const indexTypes = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
];
const manifestTypes = [
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
];
/** For a registry's Accept header. */
export const documentTypes: readonly string[] = [...manifestTypes, ...indexTypes];
const layerTypes: Record<string, Compression> = {
  "application/vnd.oci.image.layer.v1.tar": "none",
  "application/vnd.oci.image.layer.v1.tar+gzip": "gzip",
  "application/vnd.oci.image.layer.v1.tar+zstd": "zstd",
  "application/vnd.docker.image.rootfs.diff.tar.gzip": "gzip",
};

/** JSON documents are small; a whole image, which is held in memory, may not unpack to more than this. */
export const maximumDocument = 4 << 20;
const maximumImage = 2 ** 31;
const maximumIndexDepth = 3;

/** Passes a blob through, and fails at its end (or as soon as it is too long) when it is not the named one. */
async function* verified(descriptor: Descriptor, open: OpenBlob): AsyncGenerator<Uint8Array> {
  const { digest, size } = descriptor;
  const hash = createHash("sha256");
  let seen = 0;
  for await (const chunk of await open(descriptor)) {
    seen += chunk.length;
    if (seen > size) break;
    hash.update(chunk);
    yield chunk;
  }
  const found = `sha256:${hash.digest("hex")}`;
  if (seen !== size || found !== digest) {
    throw new ImageError("oci/digest", `the blob ${digest} is not what its digest and size name`, {
      facts:
        seen === size
          ? [["found", found]]
          : [
              ["bytes", `${seen > size ? "more than " : ""}${Math.min(seen, size)}`],
              ["expected", String(size)],
            ],
    });
  }
}

async function readDocument<T>(descriptor: Descriptor, open: OpenBlob, schema: z.ZodType<T>): Promise<T> {
  if (descriptor.size > maximumDocument) {
    throw new ImageError(
      "oci/digest",
      `the document ${descriptor.digest} has ${descriptor.size} bytes, more than ${maximumDocument}`,
    );
  }
  const bytes = Buffer.concat(await Array.fromAsync(verified(descriptor, open)));
  return parseDocument(bytes.toString("utf8"), descriptor.digest, schema);
}

/** JSON of a known shape. Throws ImageError `oci/layout`. */
export function parseDocument<T>(text: string, name: string, schema: z.ZodType<T>): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    const issue = error instanceof z.ZodError ? error.issues[0] : undefined;
    const reason =
      issue === undefined
        ? (error as Error).message
        : `${issue.path.map(String).join(".")}: ${issue.message}`;
    throw new ImageError("oci/layout", `${name}: ${reason}`, { cause: error });
  }
}

/** Of an index, what is for linux/amd64; one that says no platform is taken only when it is alone. */
function choose(index: z.infer<typeof indexSchema>, name: string): Descriptor {
  const { manifests } = index;
  const fitting = manifests.filter(
    (one) => one.platform?.os === "linux" && one.platform.architecture === "amd64",
  );
  const [chosen] = manifests.length === 1 && manifests[0]!.platform === undefined ? manifests : fitting;
  if (chosen === undefined || fitting.length > 1) {
    const offered = manifests.map(({ platform }) =>
      platform === undefined ? "unnamed" : `${platform.os}/${platform.architecture}`,
    );
    throw new ImageError(
      "oci/platform",
      `${name} has ${fitting.length} images for linux/amd64; one is wanted`,
      {
        facts: [["platforms", offered.join(", ") || "none"]],
      },
    );
  }
  return chosen;
}

/** The image that an index names, in the same way as a manifest's own descriptor. `name` is for messages. */
export function chooseFromIndex(text: string, name: string): Descriptor {
  return choose(parseDocument(text, name, indexSchema), name);
}

/** Follows indexes to a manifest. */
async function readManifest(descriptor: Descriptor, open: OpenBlob) {
  for (let depth = 0; indexTypes.includes(descriptor.mediaType); depth++) {
    if (depth === maximumIndexDepth)
      throw new ImageError("oci/layout", `${descriptor.digest}: indexes are nested too deeply`);
    descriptor = choose(await readDocument(descriptor, open, indexSchema), descriptor.digest);
  }
  if (!manifestTypes.includes(descriptor.mediaType)) {
    throw new ImageError(
      "oci/media-type",
      `${descriptor.digest} is a '${descriptor.mediaType}', no image manifest`,
    );
  }
  return { digest: descriptor.digest, manifest: await readDocument(descriptor, open, manifestSchema) };
}

async function readConfig(descriptor: Descriptor, open: OpenBlob, layers: number) {
  const document = await readDocument(descriptor, open, configSchema);
  if (document.os !== "linux" || document.architecture !== "amd64") {
    throw new ImageError(
      "oci/platform",
      `the image is for ${document.os}/${document.architecture}, not for linux/amd64`,
    );
  }
  const diffIds = document.rootfs.diff_ids;
  if (diffIds.length !== layers) {
    throw new ImageError(
      "oci/config",
      `the manifest has ${layers} layers, but the configuration ${diffIds.length} diff IDs`,
    );
  }
  const { Entrypoint, Cmd, Env, WorkingDir, User } = document.config ?? {};
  const environment: Record<string, string> = {};
  for (const variable of Env ?? []) {
    const equals = variable.indexOf("=");
    if (equals < 1 || variable.includes("\0")) {
      throw new ImageError(
        "oci/config",
        `the image's environment has the malformed entry ${JSON.stringify(variable)}`,
      );
    }
    environment[variable.slice(0, equals)] = variable.slice(equals + 1);
  }
  const config: OciConfig = {
    entrypoint: Entrypoint ?? [],
    command: Cmd ?? [],
    environment,
    workingDirectory: WorkingDir ?? "",
    user: User ?? "",
  };
  return { config, diffIds };
}

/** A layer's entries, checked against its digest and diff ID. Resolves only when the whole layer was right. */
async function readLayer(
  descriptor: Descriptor,
  diffId: string,
  open: OpenBlob,
  budget: number,
): Promise<{ entries: TarEntry[]; bytes: number }> {
  const compression = layerTypes[descriptor.mediaType];
  if (compression === undefined) {
    throw new ImageError("oci/media-type", `the layer ${descriptor.digest} is a '${descriptor.mediaType}'`, {
      facts: [["supported", Object.keys(layerTypes).join(", ")]],
    });
  }
  const name = `the layer ${descriptor.digest}`;
  let bytes = 0;
  let isWhole = false;
  async function* blob() {
    yield* verified(descriptor, open);
    isWhole = true;
  }
  async function* tar() {
    const hash = createHash("sha256");
    for await (const chunk of decompress(blob(), compression!, budget, name)) {
      bytes += chunk.length;
      hash.update(chunk);
      yield chunk;
    }
    if (`sha256:${hash.digest("hex")}` !== diffId) {
      throw new ImageError("oci/digest", `${name} unpacks to something else than its diff ID names`, {
        facts: [["expected", diffId]],
      });
    }
  }
  const entries = await Array.fromAsync(readTar(tar(), name));
  if (!isWhole) throw new ImageError("oci/digest", `${name} goes on after the end of its compressed stream`);
  return { entries, bytes };
}

function parentOf(path: string): { parent: string; name: string } {
  const slash = path.lastIndexOf("/");
  return { parent: slash === -1 ? "" : path.slice(0, slash), name: path.slice(slash + 1) };
}

/** The directory at `path`, made when it is missing. Throws ImageError `oci/layer` when something else is on the way. */
function directoryAt(tree: DirectoryNode, path: string): DirectoryNode {
  let at = tree;
  for (const part of path === "" ? [] : path.split("/")) {
    let next = at.entries.get(part);
    if (next === undefined) at.entries.set(part, (next = directory()));
    if (next.kind !== "directory") {
      throw new ImageError(
        "oci/layer",
        `a layer puts something below '${path}', where an earlier layer has a ${next.kind}`,
      );
    }
    at = next;
  }
  return at;
}

const whiteout = ".wh.";
const opaque = ".wh..wh..opq";

/** Removes what a layer hides (image-spec, layer.md, "Whiteouts"); only what lower layers put there. */
function applyWhiteout(tree: DirectoryNode, entry: TarEntry): void {
  const { path } = entry;
  const { parent, name } = parentOf(path);
  const from = lookup(tree, parent);
  const hidden = name.slice(whiteout.length);
  const empty = entry.kind === "file" && entry.content.length === 0;
  const named = hidden !== "" && hidden !== "." && hidden !== ".." && !hidden.startsWith(whiteout);
  if (!empty || (name !== opaque && !named)) {
    throw new ImageError("oci/layer", `a layer has the malformed whiteout '${path}'`);
  }
  if (from?.kind !== "directory") return;
  if (name === opaque) from.entries.clear();
  else from.entries.delete(hidden);
}

/** What of an entry the tree cannot hold. Permissions of a symlink mean nothing. */
function droppedOf({ kind, mode, uid, gid, xattrs }: TarEntry): Dropped[] {
  const dropped: Dropped[] = xattrs.size > 0 ? ["attribute"] : [];
  if (kind === "symlink") return dropped;
  if ((mode & 0o4000) !== 0) dropped.push("setuid");
  if ((mode & 0o2000) !== 0) dropped.push("setgid");
  if ((mode & 0o1000) !== 0) dropped.push("sticky");
  if ((uid !== 0 || gid !== 0) && (mode & 0o004) === 0) dropped.push("owner");
  return dropped;
}

/** Puts one entry of a layer into the tree, over what lower layers have there; `drops` says what its node lost. */
function applyEntry(tree: DirectoryNode, entry: TarEntry, drops: Map<Node, Set<Dropped>>): void {
  const { path, mode, xattrs } = entry;
  const { parent, name } = parentOf(path);
  const into = directoryAt(tree, parent);
  if (xattrs.has("security.capability")) {
    throw new ImageError("oci/capability", `'${path}' has file capabilities, which no image here may have`);
  }

  let node: Node;
  switch (entry.kind) {
    case "file":
      node = { kind: "file", mode: mode & 0o777, content: entry.content };
      break;
    case "symlink":
      node = { kind: "symlink", target: entry.target };
      break;
    case "hardlink": {
      const target = lookup(tree, entry.target); // an earlier file of this layer, unless that was a whiteout
      if (target === undefined) {
        throw new ImageError("oci/layer", `'${path}' is a hard link to the whiteout '${entry.target}'`);
      }
      node = target;
      break;
    }
    case "directory": {
      const lower = into.entries.get(name);
      node = {
        kind: "directory",
        mode: mode & 0o777,
        entries: lower?.kind === "directory" ? lower.entries : new Map(),
      };
      break;
    }
  }
  into.entries.set(name, node);
  drops.set(node, new Set([...(drops.get(node) ?? []), ...droppedOf(entry)]));
}

/**
 * Imports the image that `descriptor` names (a manifest, or an index with one for linux/amd64).
 * Errors: ImageError `oci/…`, `archive/…`; whatever `open` throws.
 */
export async function importImage(descriptor: Descriptor, open: OpenBlob): Promise<OciImage> {
  const { digest, manifest } = await readManifest(descriptor, open);
  const { config, diffIds } = await readConfig(manifest.config, open, manifest.layers.length);
  const tree = directory();
  const drops = new Map<Node, Set<Dropped>>();
  let budget = maximumImage;
  for (const [i, layer] of manifest.layers.entries()) {
    const { entries, bytes } = await readLayer(layer, diffIds[i]!, open, budget);
    budget -= bytes;
    const isWhiteout = ({ path }: TarEntry) => parentOf(path).name.startsWith(whiteout);
    for (const entry of entries) if (isWhiteout(entry)) applyWhiteout(tree, entry);
    for (const entry of entries) if (!isWhiteout(entry)) applyEntry(tree, entry, drops);
  }
  const changes = [...walk(tree)].flatMap(([path, node]) =>
    [...(drops.get(node) ?? [])].map((dropped): OciChange => ({ path, dropped })),
  );
  return { digest, tree, config, changes };
}
