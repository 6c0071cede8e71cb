// SPDX-License-Identifier: Apache-2.0
/**
 * PID 1 as one file: esbuild's bundle of `packages/guest`, ESM, readable, without source maps.
 *
 * Invariants: the bytes depend on the sources alone (comments name files relative to the repository); the only code of
 * others in it comes from the packages that `allowedPackages` names, so that a new dependency is a decision; those, and
 * the bundler, are byte for byte what package-lock.json names.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Flavour } from "@caisson/vocabulary/flavours";
import { build, type Metafile, type Plugin } from "esbuild";
import { ImageError } from "../errors.ts";
import { checkInstalled } from "../inputs/npm-content.ts";
import { npmBuilders } from "../inputs/recipe.ts";

/** Packages of others that may be part of PID 1. */
const allowedPackages: readonly string[] = ["zod"];

/** What PID 1 is made from: a production image has no `caisson exec`. */
export const guestProgram: Readonly<Record<Flavour, string>> = {
  development: "packages/guest/src/main-development.ts",
  production: "packages/guest/src/main.ts",
};

const repository = new URL("../../../../", import.meta.url).pathname;

export interface Bundle {
  code: Uint8Array;
  /** npm packages whose code is in it, sorted by name. */
  packages: { name: string; version: string }[];
}

/** Where the npm packages among a bundle's inputs lie ("node_modules/zod"), sorted. */
function placesOf(metafile: Metafile): string[] {
  const folders = new Set<string>();
  for (const [path, { bytesInOutput }] of Object.entries(Object.values(metafile.outputs)[0]?.inputs ?? {})) {
    const folder = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0];
    if (folder !== undefined && bytesInOutput > 0) folders.add(folder);
  }
  return [...folders].sort();
}

const ownSource = /^packages\/[^/]+\/src\/.*\.ts$/;

const packageAt = (root: string, place: string): { name: string; version: string } => {
  const { name, version } = JSON.parse(readFileSync(join(root, place, "package.json"), "utf8"));
  return { name, version };
};

/**
 * Built-in modules are loaded when something of them is first used, not before PID 1's first line: under `--jitless` Node
 * compiles each from its text, and an import also calls every getter that the module has. What esbuild makes of an import
 * from CommonJS has the module's prototype (`__toESM`), which answers here for all names.
 */
const atFirstUse: Plugin = {
  name: "built-in modules at first use",
  setup(bundler) {
    bundler.onResolve({ filter: /^node:/ }, ({ path }) => ({ path, namespace: "built-in" }));
    bundler.onLoad({ filter: /^/, namespace: "built-in" }, ({ path }) => ({
      contents: `let loaded;
const get = (_, name) => (loaded ??= process.getBuiltinModule("${path}"))[name];
module.exports = Object.create(new Proxy({}, { get }));`,
    }));
  },
};

/**
 * Bundles `entry` (a path below `root`, this repository). Throws ImageError `root/bundle` when it does not build or when it
 * would bring a package that is not allowed, `npm/altered` when one of those that it brings was altered.
 */
export async function bundleGuest(entry: string, root = repository): Promise<Bundle> {
  if (process.env["ESBUILD_BINARY_PATH"] !== undefined) {
    throw new ImageError(
      "root/bundle",
      "ESBUILD_BINARY_PATH names a bundler that nobody compared with the lock",
      {
        kind: "internal",
        fix: "unset it",
      },
    );
  }
  for (const name of npmBuilders) await checkInstalled(`node_modules/${name}`, root);
  const result = await build({
    entryPoints: [entry],
    absWorkingDir: root,
    bundle: true,
    write: false,
    metafile: true,
    platform: "node",
    format: "esm",
    target: "node26",
    charset: "utf8",
    legalComments: "none",
    conditions: ["guest"],
    plugins: Object.values(guestProgram).includes(entry) ? [atFirstUse] : [],
    logLevel: "silent",
    // What the machine's configuration says must not change the image.
    tsconfigRaw: "{}",
  }).catch((error: Error) => {
    throw new ImageError("root/bundle", `PID 1 does not bundle: ${error.message}`, { kind: "internal" });
  });
  // A package that is a link lies elsewhere, under another path: whatever is not ours has to be a compared one.
  const stray = Object.keys(result.metafile.inputs).find(
    (path) =>
      !ownSource.test(path) && !/(?:^|\/)node_modules\//.test(path) && !path.startsWith("built-in:node:"),
  );
  if (stray !== undefined) {
    throw new ImageError(
      "root/bundle",
      `PID 1 would contain ${stray}, which is neither ours nor a pinned package`,
      {
        kind: "internal",
        fix: "rm -rf node_modules, then run this again",
      },
    );
  }
  const places = placesOf(result.metafile);
  const packages = places.map((place) => packageAt(root, place));
  const foreign = packages.filter(({ name }) => !allowedPackages.includes(name));
  if (foreign.length > 0) {
    throw new ImageError("root/bundle", `PID 1 would contain ${foreign.map(({ name }) => name).join(", ")}`, {
      kind: "internal",
      fix: "remove the import, or name the package in packages/image/src/build/bundle.ts and say why",
    });
  }
  for (const place of places) await checkInstalled(place, root);
  return { code: result.outputFiles[0]!.contents, packages };
}
