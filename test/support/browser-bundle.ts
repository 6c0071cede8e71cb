// SPDX-License-Identifier: Apache-2.0
/** A package as a browser gets it: one ES module, minified, without polyfills. */
import { resolve } from "node:path";
import { forBrowsers } from "@caisson/page";
import { build } from "esbuild";

const packages = new URL("../../packages/", import.meta.url).pathname;

/**
 * Bundles `contents`, the source of a module of the package in `packages/<name>`, or of a project elsewhere (an absolute
 * path). Throws on any import of Node's.
 */
export async function browserBundle(name: string, contents: string): Promise<string> {
  const result = await build({
    stdin: { contents, resolveDir: resolve(packages, name) },
    ...forBrowsers,
  });
  return result.outputFiles[0]!.text;
}
