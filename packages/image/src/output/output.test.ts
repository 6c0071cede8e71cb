// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects } from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { tryLock } from "../exclusive.ts";
import { onSmallDisk } from "../testing/small-disk.ts";
import { imageMark } from "./manifest.ts";
import { replaceOutput } from "./output.ts";

function place(t: { after(fn: () => void): void }): string {
  const directory = temporaryDirectory("output", t);
  return directory;
}

const fill = (text: string) => (directory: string) => writeFile(join(directory, imageMark), text);
const content = (out: string) => readFileSync(join(out, imageMark), "utf8");

test("the directory is made with its parents, then replaced, and nothing else is left", async (t) => {
  const out = `${place(t)}/a/b`;
  await replaceOutput(out, fill("1"));
  await replaceOutput(out, fill("2"));
  equal(content(out), "2");
  deepEqual(readdirSync(join(out, "..")), ["b"]);
});

test("a failed fill leaves what was there, and the next one succeeds", async (t) => {
  const out = `${place(t)}/out`;
  await replaceOutput(out, fill("1"));
  const failing = async (directory: string) => {
    await fill("half")(directory);
    throw new Error("no more");
  };
  await rejects(replaceOutput(out, failing), /no more/);
  equal(content(out), "1");
  deepEqual(readdirSync(join(out, "..")), ["out"]);
  await replaceOutput(out, fill("2"));
  equal(content(out), "2");
});

test("a killed process leaves nothing in place, and what it left is taken over", async (t) => {
  const out = `${place(t)}/out`;
  const module = new URL("output.ts", import.meta.url).href;
  const script = `
    import { replaceOutput } from "${module}";
    import { writeFileSync } from "node:fs";
    await replaceOutput("${out}", async (directory) => {
      writeFileSync(directory + "/file", "half");
      console.log("filling");
      await new Promise((resolve) => setTimeout(resolve, 60_000));
    });`;
  const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout, "data");

  await rejects(replaceOutput(out, fill("2")), { code: "build/busy" });

  child.kill("SIGKILL");
  await once(child, "exit");
  equal(existsSync(out), false);
  await replaceOutput(out, fill("3"));
  equal(content(out), "3");
  deepEqual(readdirSync(join(out, "..")), ["out"]);
});

test("two builds of one place at once: one makes it, the other is told", async (t) => {
  const out = `${place(t)}/out`;
  const outcomes = await Promise.allSettled([replaceOutput(out, fill("1")), replaceOutput(out, fill("2"))]);
  const refused = outcomes.filter(({ status }) => status === "rejected");
  deepEqual(
    refused.map((outcome) => (outcome as PromiseRejectedResult).reason.code),
    ["build/busy"],
  );
  deepEqual(readdirSync(join(out, "..")), ["out"]);
});

test("a full disk is said, and leaves nothing", async (t) => {
  const directory = place(t);
  const program = `
    import { readdirSync, writeFileSync } from "node:fs";
    import { replaceOutput } from ${JSON.stringify(import.meta.resolve("./output.ts"))};
    const tooMuch = async (at) => writeFileSync(at + "/file", Buffer.alloc(200_000));
    const { code } = await replaceOutput(${JSON.stringify(`${directory}/out`)}, tooMuch).catch((error) => error);
    console.log(JSON.stringify([code, readdirSync(${JSON.stringify(directory)})]));`;
  const ended = await onSmallDisk(directory, "64k", [process.execPath, "--input-type=module", "-e", program]);
  equal(ended.stdout, '["build/disk",[]]\n', ended.stderr);
});

const occupied: [what: string, make: (out: string) => void][] = [
  ["a directory of somebody's files", (out) => cpSync(import.meta.filename, join(out, "mine"))],
  ["a file", (out) => writeFileSync(out, "mine")],
  [
    "a link to a directory of somebody's files",
    (out) => {
      cpSync(import.meta.filename, `${out}.real/mine`);
      symlinkSync(`${out}.real`, out);
    },
  ],
];
for (const [what, make] of occupied) {
  test(`${what} is not replaced`, async (t) => {
    const out = `${place(t)}/out`;
    make(out);
    const before = readdirSync(join(out, ".."), { recursive: true });
    await rejects(replaceOutput(out, fill("1")), { code: "build/occupied", kind: "usage" });
    deepEqual(readdirSync(join(out, ".."), { recursive: true }), before);
  });
}

test("an empty directory is taken", async (t) => {
  const out = `${place(t)}/out`;
  mkdirSync(out);
  await replaceOutput(out, fill("1"));
  equal(content(out), "1");
});

test("a place that cannot be is said", async (t) => {
  const directory = place(t);
  writeFileSync(`${directory}/file`, "");
  await rejects(replaceOutput(`${directory}/file/out`, fill("1")), {
    code: "build/disk",
    message: /not a directory/,
  });
});

test("one process at a time takes a lock, and it ends with that process", async () => {
  const name = `test ${process.pid}`;
  const release = await tryLock(name);
  equal(await tryLock(name), undefined);
  const other = await tryLock(`${name} other`);
  await other!();
  await release!();
  const again = await tryLock(name);
  await again!();
});
