/**
 * PID 1 as one file: esbuild's bundle of `packages/guest`, ESM, readable, without source maps.
 *
 * Invariants: the bytes depend on the sources alone (comments name files relative to the repository); the only code of
 * others in it comes from the packages that `allowedPackages` names, so that a new dependency is a decision.
 */
import { readFileSync } from "node:fs";
import { build, type Metafile } from "esbuild";
import { ImageError } from "../errors.ts";

/** Packages of others that may be part of PID 1. */
const allowedPackages: readonly string[] = ["zod", "@noble/ciphers"];

const repository = new URL("../../../../", import.meta.url).pathname;

export interface Bundle {
  code: Uint8Array;
  /** npm packages whose code is in it, sorted by name. */
  packages: { name: string; version: string }[];
}

/** The npm packages among a bundle's inputs ("node_modules/zod/…"), with what is installed. */
function packagesOf(metafile: Metafile): Bundle["packages"] {
  const folders = new Set<string>();
  for (const [path, { bytesInOutput }] of Object.entries(Object.values(metafile.outputs)[0]?.inputs ?? {})) {
    const folder = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0];
    if (folder !== undefined && bytesInOutput > 0) folders.add(folder);
  }
  return [...folders].sort().map((folder) => {
    const { name, version } = JSON.parse(readFileSync(`${repository}${folder}/package.json`, "utf8"));
    return { name, version };
  });
}

/**
 * Bundles `entry` (a path below the repository). Throws ImageError `root/bundle` when it does not build or when it
 * would bring a package that is not allowed.
 */
export async function bundleGuest(entry = "packages/guest/src/main.ts"): Promise<Bundle> {
  const result = await build({
    entryPoints: [entry],
    absWorkingDir: repository,
    bundle: true,
    write: false,
    metafile: true,
    platform: "node",
    format: "esm",
    target: "node26",
    charset: "utf8",
    legalComments: "none",
    logLevel: "silent",
    // What the machine's configuration says must not change the image.
    tsconfigRaw: "{}",
  }).catch((error: Error) => {
    throw new ImageError("root/bundle", `PID 1 does not bundle: ${error.message}`, { kind: "internal" });
  });
  const packages = packagesOf(result.metafile);
  const foreign = packages.filter(({ name }) => !allowedPackages.includes(name));
  if (foreign.length > 0) {
    throw new ImageError("root/bundle", `PID 1 would contain ${foreign.map(({ name }) => name).join(", ")}`, {
      kind: "internal",
      fix: "remove the import, or name the package in packages/image/src/build/bundle.ts and say why",
    });
  }
  return { code: result.outputFiles[0]!.contents, packages };
}
