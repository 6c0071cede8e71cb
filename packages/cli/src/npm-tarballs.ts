// SPDX-License-Identifier: Apache-2.0
/**
 * The packages that others import, and the commands that run anywhere, as npm tarballs: ES modules with types, built from
 * the sources that run here. Nothing is bundled but our own code of the command; what others wrote stays a dependency.
 */
import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { Failure } from "@caisson/vocabulary/failure";
import { build } from "esbuild";
import rootPackage from "../../../package.json" with { type: "json" };
import { jsonText } from "./views/answer.ts";

const repository = new URL("../../../", import.meta.url).pathname;

/** Packages that are published, each with all of ours that it needs. */
export const libraries = ["vocabulary", "measure", "verify", "nts", "releases"] as const;

/** Node that their code was tried with: `Buffer` and OpenSSL do what older ones lack of the language. */
const libraryNode = ">=20.12";

/** Packages whose types name Node's. */
const typedByNode = ["@caisson/nts"];
const nodeTypes = rootPackage.devDependencies["@types/node"];

interface Package {
  name: string;
  version: string;
  description: string;
  license: string;
  exports: Record<string, string>;
  imports?: Record<string, Record<string, string>>;
  dependencies?: Record<string, string>;
}

const describe = (name: string): Package =>
  JSON.parse(readFileSync(join(repository, "packages", name, "package.json"), "utf8"));

/** A program that packing needs did not do its part: it is not there, or the disk is full. */
class PackError extends Failure<"pack/failed", "unavailable"> {
  override readonly name = "PackError";
}

/** What a program prints. Throws PackError with the last thing that it complained about. */
function start(name: string, program: string, args: readonly string[], directory = repository): string {
  const run = spawnSync(program, args, { cwd: directory, encoding: "utf8" });
  if (run.status === 0) return run.stdout;
  const said = (run.error?.message ?? (run.stderr || run.stdout)).trim().split("\n").at(-1)!;
  throw new PackError("pack/failed", "unavailable", `${name} did not make the packages`, {
    facts: [["said", said]],
    fix: "see that there is room where temporary files go (TMPDIR), and that npm is installed",
  });
}

/** What TypeScript makes of the packages' sources below `directory`, without tests. */
function compile(directory: string): void {
  const sources = libraries.map((name) => join(repository, "packages", name, "src"));
  const configuration = {
    extends: join(repository, "tsconfig.json"),
    compilerOptions: {
      noEmit: false,
      declaration: true,
      rootDir: join(repository, "packages"),
      outDir: directory,
      rewriteRelativeImportExtensions: true,
      target: "es2022",
      typeRoots: [join(repository, "node_modules/@types")],
    },
    include: sources,
    exclude: sources.flatMap((source) => [`${source}/**/*.test.ts`, `${source}/**/testing`]),
  };
  const path = join(directory, "tsconfig.json");
  writeFileSync(path, JSON.stringify(configuration));
  start("TypeScript", process.execPath, [join(repository, "node_modules/typescript/bin/tsc"), "-p", path]);
}

/** Declarations keep the names of the sources: what is there are `.d.ts` files, which TypeScript looks for under `.js`. */
function renameImports(directory: string): void {
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.name.endsWith(".d.ts")) continue;
    const path = join(entry.parentPath, entry.name);
    const text = readFileSync(path, "utf8");
    writeFileSync(path, text.replace(/(from |import\()(["'])(\.{1,2}\/[^"']+)\.ts\2/g, "$1$2$3.js$2"));
  }
}

const built = (source: string): string => source.replace(/^\.\/src\//, "./dist/").replace(/\.ts$/, ".js");

/** Its description as npm gets it: what it offers is what was built. */
function published({ name, version, description, license, exports, imports, dependencies }: Package): object {
  const offered = Object.entries(exports).filter(([path]) => !path.startsWith("./testing/"));
  return {
    name,
    version,
    description,
    license,
    type: "module",
    sideEffects: false,
    engines: { node: libraryNode },
    files: ["dist"],
    exports: Object.fromEntries(
      offered.map(([path, source]) => {
        const file = built(source);
        return [path, { types: file.replace(/\.js$/, ".d.ts"), default: file }];
      }),
    ),
    ...(imports !== undefined && {
      imports: Object.fromEntries(
        Object.entries(imports).map(([name, conditions]) => [
          name,
          // One type for all, of the variant that names nothing of Node's.
          {
            types: built(conditions["default"]!).replace(/\.js$/, ".d.ts"),
            ...Object.fromEntries(
              Object.entries(conditions).map(([condition, source]) => [condition, built(source)]),
            ),
          },
        ]),
      ),
    }),
    dependencies: { ...dependencies, ...(typedByNode.includes(name) && { "@types/node": nodeTypes }) },
  };
}

/** A page whose links lead into this repository, for a place where it is not: the links' text alone. */
const withoutLinks = (text: string): string =>
  text.replaceAll(/\[([^\]]+)\]\(\.\.\/[^)]*\)/g, "$1 (in Caisson's repository)");

function stageLibrary(name: string, compiled: string, stage: string): void {
  cpSync(join(compiled, name, "src"), join(stage, "dist"), { recursive: true });
  renameImports(join(stage, "dist"));
  writeFileSync(join(stage, "package.json"), jsonText(published(describe(name))));
  const page = join(repository, "packages", name, "README.md");
  if (existsSync(page)) writeFileSync(join(stage, "README.md"), withoutLinks(readFileSync(page, "utf8")));
}

/** What our code of the portable commands imports from others. Nothing native may come in: see the test. */
const ofOthers = ["@noble/ciphers", "commander", "yaml", "zod"];

/** Versions of others' packages, as ours pin them. */
function pinned(): Record<string, string> {
  const all = ["cli", "nts", "protocol", "verify"].map((name) => describe(name).dependencies ?? {});
  const found: Record<string, string> = Object.assign({}, ...all);
  return Object.fromEntries(ofOthers.map((name) => [name, found[name]!]));
}

async function stageCommand(stage: string): Promise<void> {
  await build({
    entryPoints: { caisson: join(repository, "packages/cli/src/portable.ts") },
    outdir: join(stage, "dist"),
    bundle: true,
    splitting: true,
    platform: "node",
    format: "esm",
    target: "node26",
    external: ofOthers.flatMap((name) => [name, `${name}/*`]),
    banner: { js: "#!/usr/bin/env node" },
    logLevel: "silent",
    tsconfigRaw: "{}",
  });
  const { version, license } = describe("cli");
  const description = {
    name: "caisson",
    version,
    description: "Judges and predicts: caisson verify, measure, inspect, policy and time, wherever Node runs",
    license,
    type: "module",
    bin: { caisson: "dist/caisson.js" },
    engines: { node: ">=26" },
    files: ["dist"],
    dependencies: pinned(),
  };
  writeFileSync(join(stage, "package.json"), jsonText(description));
  writeFileSync(
    join(stage, "README.md"),
    [
      "# caisson",
      "",
      "Judges evidence of confidential virtual machines that Caisson made, and others, wherever Node 26 runs:",
      "",
      "```sh",
      "caisson verify --from http://HOST:PORT/ --kit KIT    # a running application, judged by its publisher's kit",
      "caisson verify EVIDENCE.json --policy POLICY.yaml    # evidence in a file",
      "caisson measure --firmware FILE --kernel FILE --command-line TEXT",
      "caisson inspect FILE                                 # firmware, event logs, evidence",
      "caisson time                                         # who agrees on the time",
      "```",
      "",
      "What builds and runs machines is in Caisson's repository, for Linux on x86-64.",
      "",
    ].join("\n"),
  );
}

/** Writes the tarballs into `out` and returns their paths, ours first as they depend on each other. `npm` has to be there. */
export async function packAll(out: string): Promise<string[]> {
  makeDirectory(out);
  const work = mkdtempSync(join(tmpdir(), "caisson-pack-"));
  try {
    const compiled = join(work, "compiled");
    mkdirSync(compiled);
    compile(compiled);
    const tarballs: string[] = [];
    for (const name of [...libraries, "caisson"]) {
      const stage = join(work, name);
      mkdirSync(stage);
      if (name === "caisson") await stageCommand(stage);
      else stageLibrary(name, compiled, stage);
      cpSync(join(repository, "LICENSE"), join(stage, "LICENSE"));
      const options = ["pack", "--json", "--ignore-scripts", "--pack-destination", out];
      const said = start("npm", "npm", options, stage);
      tarballs.push(join(out, (JSON.parse(said) as { filename: string }[])[0]!.filename));
    }
    return tarballs;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
