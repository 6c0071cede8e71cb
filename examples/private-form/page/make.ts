// SPDX-License-Identifier: Apache-2.0
/**
 * Makes the page: node examples/private-form/page/make.ts GUEST STATE OUT. GUEST is the machine's https address as browsers
 * reach it, STATE the directory that `caisson up` wrote beside the image (or a kit), OUT where the page goes.
 */
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { parse } from "yaml";

const here = new URL(".", import.meta.url).pathname;

/** The first of these files that is there, read. */
function read(directory: string, ...names: string[]): unknown {
  const name = names.find((one) => existsSync(join(directory, one)));
  return name === undefined ? undefined : parse(readFileSync(join(directory, name), "utf8"));
}

export async function makePage(guest: string, state: string, out: string): Promise<void> {
  const { origin } = new URL(guest);
  mkdirSync(out, { recursive: true });
  await build({
    entryPoints: [join(here, "page.ts")],
    outfile: join(out, "page.js"),
    bundle: true,
    minify: true,
    format: "esm",
    platform: "browser",
    target: "es2024",
    logLevel: "silent",
  });
  const digest = createHash("sha384")
    .update(readFileSync(join(out, "page.js")))
    .digest("base64");
  const html = readFileSync(join(here, "index.html"), "utf8")
    .replace("CONNECT", origin)
    .replace("INTEGRITY", `sha384-${digest}`);
  writeFileSync(join(out, "index.html"), html);
  copyFileSync(join(here, "page.css"), join(out, "page.css"));
  const configuration = {
    guest: origin,
    policy: read(state, "policy.yaml", "policy.json"),
    references: read(state, "references.json"),
    collateral: read(state, "collateral.json", "collateral/simulated.json"),
  };
  writeFileSync(join(out, "configuration.json"), `${JSON.stringify(configuration)}\n`);
}

if (import.meta.main) {
  const [guest, state, out] = process.argv.slice(2);
  if (guest === undefined || state === undefined || out === undefined) {
    process.stderr.write("node examples/private-form/page/make.ts GUEST STATE OUT\n");
    process.exitCode = 2;
  } else await makePage(guest, state, out);
}
