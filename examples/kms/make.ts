// SPDX-License-Identifier: Apache-2.0
/**
 * Makes the application's directory: node examples/kms/make.ts FILES [OUT]. FILES holds what says who decides, and is
 * measured with the image: operators.json, peers.yaml and others (packages/kms/src/guest.ts). OUT is examples/kms/app when left out.
 */
import { cpSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { messageOf } from "@caisson/vocabulary/failure";
import { build } from "esbuild";

const here = import.meta.dirname;
const names = ["operators.json", "peers.yaml", "peers.json", "keepers.json", "shares.json", "collateral"];

/** Throws Error where FILES has nothing that says who decides, or something that nobody reads. */
export async function makeKms(files: string, out: string): Promise<void> {
  const given = readdirSync(files);
  const unread = given.find((name) => !names.includes(name));
  if (unread !== undefined || given.length === 0) {
    const what = unread === undefined ? "is empty" : `has ${unread}, which a KMS does not read`;
    throw new Error(`${files} ${what}: it holds ${names.join(", ")}`);
  }
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  await build({
    entryPoints: [join(here, "main.ts")],
    outfile: join(out, "main.mjs"),
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node26",
    // The optional native client of pg, which is not installed.
    external: ["pg-native"],
    // Modules of the CommonJS kind in it ask for Node's own by require.
    banner: {
      js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);',
    },
    logLevel: "silent",
  });
  for (const name of given) cpSync(join(files, name), join(out, name), { recursive: true });
}

if (import.meta.main) {
  const [files, out = join(here, "app")] = process.argv.slice(2);
  try {
    if (files === undefined) throw new Error("node examples/kms/make.ts FILES [OUT]");
    await makeKms(files, out);
  } catch (error) {
    process.stderr.write(`${messageOf(error)}\n`);
    process.exitCode = 2;
  }
}
