// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects } from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { directory, lookup, put, walk } from "../build/tree.ts";
import { rootFiles } from "../inputs/recipe.ts";
import { elfFile } from "../testing/elf.ts";
import { nodeImage, packageLeftOutside } from "./node-image.ts";

/** A root as the image has it, with the names for contents. */
function makeRoot() {
  const tree = directory();
  for (const path of ["/usr/bin/node", ...rootFiles.map((file) => file.path)]) {
    put(tree, path, { kind: "file", mode: 0o755, content: Buffer.from(path) });
  }
  const librt = "/usr/lib/x86_64-linux-gnu/librt.so.1";
  return { tree, spare: new Map([[librt, Buffer.from(librt)]]) };
}

let app: string;
beforeEach(() => {
  app = mkdtempSync(join(tmpdir(), "caisson-app-"));
  writeFileSync(join(app, "main.mjs"), "// main");
  mkdirSync(join(app, "lib"));
  writeFileSync(join(app, "lib/part.mjs"), "// part");
});
afterEach(() => rmSync(app, { recursive: true }));

test("Node, its libraries and the directory, run as nobody", async () => {
  const { tree, config, changes } = await nodeImage(join(app, "main.mjs"), makeRoot(), join(app, "out"));
  deepEqual(config.entrypoint, ["/usr/bin/node", "/app/main.mjs"]);
  equal(config.user, "65532:65532");
  deepEqual(changes, []);
  const files = [...walk(tree)].filter(([, node]) => node.kind === "file").map(([path]) => path);
  equal(files.includes("/usr/bin/crun"), false);
  deepEqual(
    files.filter((path) => path.startsWith("/app")),
    ["/app/lib/part.mjs", "/app/main.mjs"],
  );
  for (const path of files.filter((one) => !one.startsWith("/app"))) {
    const node = lookup(tree, path);
    equal(node?.kind === "file" && Buffer.from(node.content as Uint8Array).toString(), path);
  }
  deepEqual(lookup(tree, "/lib64"), { kind: "symlink", target: "usr/lib64" });
});

test("the same files give the same image, whenever and wherever they are", async () => {
  const first = await nodeImage(join(app, "main.mjs"), makeRoot(), join(app, "out"));
  utimesSync(join(app, "main.mjs"), 1, 1);
  equal((await nodeImage(join(app, "main.mjs"), makeRoot(), join(app, "out"))).digest, first.digest);
  writeFileSync(join(app, "main.mjs"), "// other");
  equal(
    (await nodeImage(join(app, "main.mjs"), makeRoot(), join(app, "out"))).digest === first.digest,
    false,
  );
});

test("what is made of an application is not a part of it: neither an image, nor its machine's keys", async () => {
  const image = () => nodeImage(join(app, "main.mjs"), makeRoot(), join(app, "out"));
  const first = await image();
  mkdirSync(join(app, "out/hello-development.state"), { recursive: true });
  writeFileSync(join(app, "out/hello-development.state/root-secret"), "secret");
  equal((await image()).digest, first.digest);
  mkdirSync(join(app, "lib/out"));
  writeFileSync(join(app, "lib/out/part.mjs"), "// its own");
  equal(
    [...walk((await image()).tree)].some(([path]) => path === "/app/lib/out/part.mjs"),
    true,
  );
});

test("a directory as npm leaves it: links inside it stay, and may be executed what may be", async () => {
  mkdirSync(join(app, "node_modules/.bin"), { recursive: true });
  mkdirSync(join(app, "node_modules/tool"));
  writeFileSync(join(app, "node_modules/tool/cli.js"), "#!/usr/bin/env node", { mode: 0o775 });
  symlinkSync("../tool/cli.js", join(app, "node_modules/.bin/tool"));
  symlinkSync(join(app, "lib"), join(app, "node_modules/own"));
  symlinkSync("..", join(app, "node_modules/.self"));
  const { tree } = await nodeImage(join(app, "main.mjs"), makeRoot(), join(app, "out"));
  deepEqual(lookup(tree, "/app/node_modules/.bin/tool"), { kind: "symlink", target: "../tool/cli.js" });
  deepEqual(lookup(tree, "/app/node_modules/own"), { kind: "symlink", target: "../lib" });
  deepEqual(lookup(tree, "/app/node_modules/.self"), { kind: "symlink", target: ".." });
  const [cli, main] = ["/app/node_modules/tool/cli.js", "/app/main.mjs"].map((path) => lookup(tree, path));
  deepEqual([cli?.kind === "file" && cli.mode, main?.kind === "file" && main.mode], [0o755, 0o644]);
});

test("a library that only an addon asks for is in the image with it, and not without it", async () => {
  const libraries = async () =>
    [...walk((await nodeImage(join(app, "main.mjs"), makeRoot(), join(app, "out"))).tree)].filter(([path]) =>
      path.endsWith("librt.so.1"),
    );
  deepEqual(await libraries(), []);
  const addon = elfFile({ needed: ["librt.so.1", "libc.so.6"], soname: "a.node" });
  writeFileSync(join(app, "a.node"), Buffer.concat([addon, Buffer.from("\0napi_register_module_v1\0")]));
  equal((await libraries()).length, 1);
});

test("a native addon for another system is refused, with what to build it for", async () => {
  mkdirSync(join(app, "node_modules/a/build/Release"), { recursive: true });
  writeFileSync(join(app, "node_modules/a/build/Release/a.node"), Buffer.from("cffaedfe", "hex"));
  await rejects(nodeImage(join(app, "main.mjs"), makeRoot(), join(app, "out")), {
    code: "app/addon",
    message: /node_modules\/a\/build\/Release\/a.node is not a Linux program/,
    facts: [
      [
        "the image has",
        `Node ${process.versions.node}, ABI ${process.versions.modules}, glibc, x86-64, Node-API`,
      ],
    ],
  });
});

test("refused: an entry that is not there, links that lead out, a directory that is not there", async () => {
  await rejects(nodeImage(join(app, "else.mjs"), makeRoot(), join(app, "out")), { code: "app/directory" });
  await rejects(nodeImage("/nowhere/main.mjs", makeRoot(), join(app, "out")), { code: "app/directory" });
  for (const target of ["/etc/passwd", "../..", `../${"x".repeat(8)}`, "lib/../../x"]) {
    symlinkSync(target, join(app, "out"));
    await rejects(nodeImage(join(app, "main.mjs"), makeRoot(), join(app, "out")), {
      code: "app/directory",
      message: /link out/,
    });
    rmSync(join(app, "out"));
  }
});

test("packages above the entry's directory are noticed, those beside it are the image's", (t) => {
  const place = temporaryDirectory("modules", t);
  mkdirSync(join(place, "src/deep"), { recursive: true });
  const entry = join(place, "src/index.js");
  const write = (text: string) => writeFileSync(join(place, "src/deep/part.mjs"), text);
  write('import { a } from "@scope/tool/a";');
  equal(packageLeftOutside(entry), undefined);
  const tool = join(place, "node_modules/@scope/tool");
  mkdirSync(tool, { recursive: true });
  mkdirSync(join(place, "node_modules/http"));
  equal(packageLeftOutside(entry), tool);
  equal(packageLeftOutside(join(place, "src/deep/index.js")), tool);
  equal(packageLeftOutside(join(place, "index.js")), undefined);
  for (const text of [
    'const t = require("@scope/tool");',
    "await import('@scope/tool/x.js')",
    'import"@scope/tool"',
  ]) {
    write(text);
    equal(packageLeftOutside(entry), tool, text);
  }
  // What another project above has is nobody's concern where nothing is imported from it.
  for (const text of [
    'import "node:http";',
    'import "http";',
    'import "./@scope/tool";',
    'import "absent";',
  ]) {
    write(text);
    equal(packageLeftOutside(entry), undefined, text);
  }
});
