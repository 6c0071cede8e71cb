/**
 * Makes the OCI image of an application that is one directory of JavaScript: no registry, no Dockerfile.
 *
 * The image has two layers: Node with its libraries, from the same pinned files and at the same paths as in the
 * image around it (so they are stored once), and the directory under `/app`. It is a function of these files.
 */
import { createHash } from "node:crypto";
import { readdir, readFile, stat } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { bytesOf } from "../build/content.ts";
import { type DirectoryNode, lookup } from "../build/tree.ts";
import { ImageError } from "../errors.ts";
import { rootFiles } from "../inputs/recipe.ts";
import type { Descriptor } from "./documents.ts";
import { importImage, type OciImage } from "./oci.ts";
import { type TarFile, writeTar } from "./tar-writer.ts";

const maximumApplication = 256 << 20;

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

/** The files below `directory`, sorted; links and special files are refused. */
async function readApplication(directory: string): Promise<TarFile[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch((error: Error) => {
    throw new ImageError("app/directory", `cannot read the application: ${error.message}`, {
      fix: "correct app.node in the spec",
    });
  });
  const files: TarFile[] = [];
  let total = 0;
  for (const entry of entries) {
    const place = join(entry.parentPath, entry.name);
    if (entry.isDirectory()) continue;
    if (!entry.isFile()) {
      throw new ImageError("app/directory", `${place} is neither a file nor a directory`, {
        fix: "replace it by a file",
      });
    }
    total += (await stat(place)).size;
    if (total > maximumApplication) {
      throw new ImageError("app/directory", `${directory} has more than ${maximumApplication >> 20} MiB`);
    }
    files.push({ path: `app/${relative(directory, place)}`, mode: 0o644, content: await readFile(place) });
  }
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}

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
 * becomes `/app`. Node is taken from `root`, the image around it. Errors: ImageError `app/directory`.
 */
export async function nodeImage(entry: string, root: { readonly tree: DirectoryNode }): Promise<OciImage> {
  const directory = dirname(entry);
  const application = await readApplication(directory);
  const main = `app/${basename(entry)}`;
  if (!application.some(({ path }) => path === main)) {
    throw new ImageError("app/directory", `${entry} is no file`, { fix: "correct app.node in the spec" });
  }
  const base = runtimeFiles(root.tree);
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
