// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { bundleGuest, guestProgram } from "./bundle.ts";

const repository = new URL("../../../../", import.meta.url).pathname;

test("PID 1 bundles to the same bytes every time, without a path of this machine", async () => {
  const [one, two] = [await bundleGuest(guestProgram.production), await bundleGuest(guestProgram.production)];
  ok(Buffer.from(one.code).equals(two.code));
  equal(Buffer.from(one.code).includes(repository), false);
  ok(Buffer.from(one.code).includes("packages/guest/src/init.ts"));
});

test("the npm packages inside are named with their versions, each once", async () => {
  const { packages } = await bundleGuest(guestProgram.production);
  const names = packages.map(({ name }) => name);
  deepEqual(names, [...new Set(names)].sort());
  ok(packages.every(({ version }) => /^\d+\.\d+\.\d+/.test(version)));
});

test("what is in the bundle loads no built-in module before it is used", async (t) => {
  const { code } = await bundleGuest(guestProgram.production);
  const tell = 'process.once("exit", () => console.log(JSON.stringify(process.moduleLoadList)));\n';
  // It ends when it does not find the addon that an image has.
  const directory = temporaryDirectory("bundle", t);
  writeFileSync(join(directory, "init.mjs"), Buffer.concat([Buffer.from(tell), code]));
  const { stdout, stderr } = spawnSync(process.execPath, [join(directory, "init.mjs")], { encoding: "utf8" });
  ok(stderr.includes("syscalls.node"), stderr);
  const loaded: string[] = JSON.parse(stdout);
  ok(loaded.includes("NativeModule module"));
  deepEqual(
    ["crypto", "dns", "http", "net", "tls", "zlib"].filter((name) => loaded.includes(`NativeModule ${name}`)),
    [],
  );
});

test("refused: a package that PID 1 may not contain", async () => {
  await rejects(bundleGuest("packages/image/src/inputs/spec.ts"), { code: "root/bundle", message: /yaml/ });
});

test("refused: what does not bundle", async () => {
  await rejects(bundleGuest("packages/guest/src/nothing.ts"), { code: "root/bundle" });
});

test("what lets somebody run programs in a guest is part of development images alone", async () => {
  const bundles = await Promise.all([
    bundleGuest(guestProgram.production),
    bundleGuest(guestProgram.development),
  ]);
  deepEqual(
    bundles.map(({ code }) => Buffer.from(code).includes("packages/guest/src/exec.ts")),
    [false, true],
  );
});
