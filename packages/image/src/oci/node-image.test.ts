import { deepEqual, equal, rejects } from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { directory, lookup, put, walk } from "../build/tree.ts";
import { rootFiles } from "../inputs/recipe.ts";
import { nodeImage } from "./node-image.ts";

/** A root as the image has it, with the names for contents. */
function makeRoot() {
  const tree = directory();
  for (const path of ["/usr/bin/node", ...rootFiles.map((file) => file.path)]) {
    put(tree, path, { kind: "file", mode: 0o755, content: Buffer.from(path) });
  }
  return { tree };
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
  const { tree, config, changes } = await nodeImage(join(app, "main.mjs"), makeRoot());
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
  const first = await nodeImage(join(app, "main.mjs"), makeRoot());
  utimesSync(join(app, "main.mjs"), 1, 1);
  equal((await nodeImage(join(app, "main.mjs"), makeRoot())).digest, first.digest);
  writeFileSync(join(app, "main.mjs"), "// other");
  equal((await nodeImage(join(app, "main.mjs"), makeRoot())).digest === first.digest, false);
});

test("refused: an entry that is not there, links, a directory that is not there", async () => {
  await rejects(nodeImage(join(app, "else.mjs"), makeRoot()), { code: "app/directory" });
  await rejects(nodeImage("/nowhere/main.mjs", makeRoot()), { code: "app/directory" });
  symlinkSync("/etc/passwd", join(app, "passwd"));
  await rejects(nodeImage(join(app, "main.mjs"), makeRoot()), { code: "app/directory" });
});
