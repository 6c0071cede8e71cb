// SPDX-License-Identifier: Apache-2.0
/**
 * Makes the OCI image of an application that is one directory of JavaScript: no registry, no Dockerfile.
 *
 * The image has two layers: Node with its libraries, from the same pinned files and at the same paths as in the
 * image around it (so they are stored once), and the directory under `/app`, as npm leaves it: links inside it stay
 * links, and what may be executed may be so here. It is a function of these files.
 */
import { createHash } from "node:crypto";
import { type Dirent, existsSync, readdirSync, readFileSync } from "node:fs";
import { readdir, readFile, readlink, realpath, stat } from "node:fs/promises";
import { isBuiltin } from "node:module";
import { basename, dirname, isAbsolute, join, relative, resolve } from "node:path";
import { bytesOf } from "../build/content.ts";
import { type DirectoryNode, lookup } from "../build/tree.ts";
import { ImageError } from "../errors.ts";
import { rootFiles } from "../inputs/recipe.ts";
import type { Descriptor } from "./documents.ts";
import { type AddonFile, type AddonHost, checkAddons, librariesOfAddons } from "./native-addons.ts";
import { importImage, type OciImage } from "./oci.ts";
import { type TarFile, writeTar } from "./tar-writer.ts";

const maximumApplication = 256 << 20;

/** The image around the application, as `Root` in `build/rootfs.ts`. */
export interface NodeRoot {
  readonly tree: DirectoryNode;
  readonly spare: ReadonlyMap<string, Uint8Array>;
}

/** What Node is linked with. */
const nodeLibraries = new Set(["libatomic1", "libc6", "libgcc-s1", "libstdc++6"]);

interface Blob {
  descriptor: Descriptor;
  chunks: Uint8Array[];
}

function blob(mediaType: string, chunks: Uint8Array[]): Blob {
  const hash = createHash("sha256");
  let size = 0;
  for (const chunk of chunks) {
    hash.update(chunk);
    size += chunk.length;
  }
  return { descriptor: { mediaType, digest: `sha256:${hash.digest("hex")}`, size }, chunks };
}

const jsonBlob = (mediaType: string, value: object) => blob(mediaType, [Buffer.from(JSON.stringify(value))]);

/** Every directory above some paths, each once, parents first. */
function parents(paths: readonly string[]): TarFile[] {
  const found = new Set<string>();
  for (const path of paths) {
    for (let slash = path.indexOf("/"); slash !== -1; slash = path.indexOf("/", slash + 1))
      found.add(path.slice(0, slash));
  }
  return [...found].sort().map((path) => ({ path, mode: 0o755, content: "directory" as const }));
}

/** Where a link inside the application leads, from the link; npm makes absolute ones, too. Refuses a way out. */
async function readLink(place: string, directory: string): Promise<string> {
  const target = await readlink(place);
  const from = await realpath(dirname(place));
  const inside = relative(await realpath(directory), resolve(from, target));
  if (inside.startsWith("..") || isAbsolute(inside)) {
    throw new ImageError("app/directory", `${place} is a link out of the application: '${target}'`, {
      fix: "npm install --install-links instead of links to other directories; or replace it by what it links to",
    });
  }
  return relative(from, resolve(from, target)) || ".";
}

/** How far above its entry an application's packages usually lie: src/, or packages/NAME/src/. */
const levelsAbove = 3;

/** A package's name where a file imports or requires it: neither a path nor a module with a scheme (`node:fs`). */
const imports = /\b(?:from|import|require)\s*\(?\s*["']((?:@[\w.-]+\/)?\w[\w.-]*)(?:\/[^"']*)?["']/g;

/**
 * A package that would stay outside of the image, by its path: a file of the application names it, and it lies in a
 * `node_modules` above the entry's directory, where that has none. The program would find it here, and not in the guest.
 */
export function packageLeftOutside(entry: string): string | undefined {
  const directory = dirname(entry);
  let at = directory;
  for (let level = 0; level <= levelsAbove; level++, at = dirname(at)) {
    const modules = join(at, "node_modules");
    if (!existsSync(modules)) continue;
    return level === 0 ? undefined : importedFrom(modules, directory);
  }
  return undefined;
}

/** The first package of `modules` that a JavaScript file below `directory` names. */
function importedFrom(modules: string, directory: string): string | undefined {
  for (const file of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    if (!file.isFile() || !/\.[cm]?js$/.test(file.name)) continue;
    for (const [, name = ""] of readFileSync(join(file.parentPath, file.name), "utf8").matchAll(imports)) {
      const place = join(modules, name);
      if (!isBuiltin(name) && existsSync(place)) return place;
    }
  }
  return undefined;
}

/** Everything below a directory but the directories, without what is below `made`; no link is followed. */
async function* entriesBelow(directory: string, made: string): AsyncGenerator<Dirent> {
  const entries = await readdir(directory, { withFileTypes: true }).catch((error: Error) => {
    throw new ImageError("app/directory", `cannot read the application: ${error.message}`, {
      fix: "correct app.node in the spec",
    });
  });
  for (const entry of entries) {
    const place = join(directory, entry.name);
    if (!entry.isDirectory()) yield entry;
    else if (place !== made) yield* entriesBelow(place, made);
  }
}

/** The files and links below `directory`, sorted; special files, and links that lead out, are refused. */
async function readApplication(directory: string, made: string): Promise<TarFile[]> {
  const files: TarFile[] = [];
  let total = 0;
  for await (const entry of entriesBelow(directory, made)) {
    const place = join(entry.parentPath, entry.name);
    const path = `app/${relative(directory, place)}`;
    if (entry.isSymbolicLink()) {
      files.push({ path, mode: 0o777, content: { symlink: await readLink(place, directory) } });
      continue;
    }
    if (!entry.isFile()) {
      throw new ImageError("app/directory", `${place} is neither a file, a link nor a directory`, {
        fix: "replace it by a file",
      });
    }
    const { size, mode } = await stat(place);
    total += size;
    if (total > maximumApplication) {
      throw new ImageError("app/directory", `${directory} has more than ${maximumApplication >> 20} MiB`);
    }
    files.push({ path, mode: (mode & 0o111) === 0 ? 0o644 : 0o755, content: await readFile(place) });
  }
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** What native addons find: the Node that runs this, which is the image's, and the libraries beside it. */
function addonHost(base: readonly TarFile[]): AddonHost {
  const libraries = new Map(base.map(({ path, content }) => [basename(path), content]));
  const libc = libraries.get("libc.so.6");
  return {
    node: process.versions.node,
    abi: process.versions.modules,
    libraries: new Set(libraries.keys()),
    libc: libc instanceof Uint8Array ? libc : new Uint8Array(),
  };
}

/** Libraries that the addons ask for and Node does not. */
function spareLibraries(addons: readonly AddonFile[], { spare }: NodeRoot): TarFile[] {
  const needed = librariesOfAddons(addons);
  return [...spare]
    .filter(([path]) => needed.has(basename(path)))
    .map(([path, content]) => ({ path: path.slice(1), mode: 0o644, content }));
}

const addonsOf = (application: readonly TarFile[]): AddonFile[] =>
  application.flatMap(({ path, content }) =>
    path.endsWith(".node") && content instanceof Uint8Array
      ? [{ path: path.slice("app/".length), content }]
      : [],
  );

/** Node and its libraries, as they stand in the root around the application. */
function runtimeFiles(root: DirectoryNode): TarFile[] {
  const libraries = rootFiles.filter((file) => nodeLibraries.has(file.package)).map(({ path }) => path);
  return ["/usr/bin/node", ...libraries].sort().map((path) => {
    const node = lookup(root, path);
    if (node?.kind !== "file")
      throw new ImageError("root/missing-file", `the root has no ${path}`, { kind: "internal" });
    return { path: path.slice(1), mode: node.mode, content: bytesOf(node.content) };
  });
}

/**
 * The image of the application whose entry file is `entry` (absolute path), run by Node. The entry's whole directory
 * becomes `/app`, without `made`, where images go: with it, an image would hold the one before, and its machine's keys.
 * Node is taken from `root`, the image around it. Errors: ImageError `app/directory`, `app/addon`.
 */
export async function nodeImage(entry: string, root: NodeRoot, made: string): Promise<OciImage> {
  const directory = dirname(entry);
  const application = await readApplication(directory, made);
  const main = `app/${basename(entry)}`;
  if (!application.some(({ path }) => path === main)) {
    throw new ImageError("app/directory", `${entry} is not a file`, { fix: "correct app.node in the spec" });
  }
  const addons = addonsOf(application);
  const base = [...runtimeFiles(root.tree), ...spareLibraries(addons, root)];
  checkAddons(addons, addonHost(base));
  // The loader's path in every x86-64 program.
  base.push({ path: "lib64", mode: 0o777, content: { symlink: "usr/lib64" } });

  const layers = [base, application].map((files) =>
    blob("application/vnd.oci.image.layer.v1.tar", [
      ...writeTar([...parents(files.map(({ path }) => path)), ...files]),
    ]),
  );
  const config = jsonBlob("application/vnd.oci.image.config.v1+json", {
    architecture: "amd64",
    os: "linux",
    config: {
      User: "65532:65532",
      Env: ["PATH=/usr/bin", "NODE_ENV=production"],
      Entrypoint: ["/usr/bin/node", `/${main}`],
      WorkingDir: "/app",
    },
    rootfs: { type: "layers", diff_ids: layers.map(({ descriptor }) => descriptor.digest) },
  });
  const manifest = jsonBlob("application/vnd.oci.image.manifest.v1+json", {
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: config.descriptor,
    layers: layers.map(({ descriptor }) => descriptor),
  });
  const blobs = new Map(
    [...layers, config, manifest].map(({ descriptor, chunks }) => [descriptor.digest, chunks]),
  );
  const open = async ({ digest }: Descriptor) => ({ chunks: blobs.get(digest)! });
  return importImage({ descriptor: manifest.descriptor, open });
}
