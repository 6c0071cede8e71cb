// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects } from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import type { ImageErrorCode } from "../errors.ts";
import { readTar } from "../oci/tar.ts";
import { type TarFile, tarHeader, writeTar } from "../oci/tar-writer.ts";
import { extract } from "./extract.ts";

let scratch: string;
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "caisson-extract-"));
});
afterEach(() => {
  rmSync(scratch, { recursive: true });
});

async function* once(bytes: Uint8Array) {
  yield bytes;
}
const archive = (...files: TarFile[]) => readTar(once(Buffer.concat([...writeTar(files)])), "the archive");
const file = (path: string, text = path, mode = 0o644): TarFile => ({
  path,
  mode,
  content: Buffer.from(text),
});
const link = (path: string, symlink: string): TarFile => ({ path, mode: 0o777, content: { symlink } });
const folder = (path: string, mode = 0o755): TarFile => ({ path, mode, content: "directory" });

test("archives are laid over each other; special bits are dropped", async () => {
  const out = join(scratch, "out");
  await extract(
    [
      archive(folder("usr"), file("usr/bin/tool", "#!", 0o4755), link("bin", "usr/bin")),
      archive(folder("usr", 0o700), file("usr/lib/a")),
    ],
    out,
  );
  equal(readFileSync(join(out, "usr/bin/tool"), "utf8"), "#!");
  equal(statSync(join(out, "usr/bin/tool")).mode & 0o7777, 0o755 & ~process.umask());
  equal(readlinkSync(join(out, "bin")), "usr/bin");
  equal(readFileSync(join(out, "usr/lib/a"), "utf8"), "usr/lib/a");
});

test("a hard link is the same file", async () => {
  const bytes = Buffer.concat([
    tarHeader({ path: "a", type: "0", size: 0 }),
    tarHeader({ path: "b", type: "1", link: "a" }),
    new Uint8Array(1024),
  ]);
  await extract([readTar(once(bytes), "x")], join(scratch, "out"));
  equal(statSync(join(scratch, "out/a")).ino, statSync(join(scratch, "out/b")).ino);
});

const outside = () => join(scratch, "outside");
const refused: { name: string; archives: () => TarFile[][]; code: ImageErrorCode }[] = [
  {
    name: "a file behind a symlink of an earlier archive",
    archives: () => [[link("a", outside())], [file("a/planted")]],
    code: "archive/duplicate",
  },
  {
    name: "a file through a symlink of an earlier archive",
    archives: () => [[link("a", join(outside(), "planted"))], [file("a")]],
    code: "archive/duplicate",
  },
  {
    name: "a directory over a symlink of an earlier archive",
    archives: () => [[link("a", outside())], [folder("a"), file("a/planted")]],
    code: "archive/duplicate",
  },
  { name: "one file in two archives", archives: () => [[file("a")], [file("a")]], code: "archive/duplicate" },
  {
    name: "a file where another archive has a directory",
    archives: () => [[folder("a")], [file("a")]],
    code: "archive/duplicate",
  },
];

for (const { name, archives, code } of refused) {
  test(`refused, and nothing written outside: ${name}`, async () => {
    mkdirSync(outside());
    const sources = archives().map((files) => archive(...files));
    await rejects(extract(sources, join(scratch, "out")), { code });
    equal(existsSync(join(outside(), "planted")), false);
  });
}

test("a directory that exists is not touched", async () => {
  await rejects(extract([archive(file("a"))], scratch), { code: "EEXIST" });
  deepEqual(existsSync(join(scratch, "a")), false);
});
