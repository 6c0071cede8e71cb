// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects } from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { begin } from "./root.ts";

/** An image's directory, and a persistent volume beside it. */
function places(t: TestContext) {
  const place = temporaryDirectory("root", t);
  const [image, mount] = [join(place, "image"), join(place, "mount")];
  const volume = join(mount, "data");
  mkdirSync(join(image, "inner"), { recursive: true, mode: 0o750 });
  mkdirSync(volume, { recursive: true });
  for (const name of ["a", "inner/b"]) writeFileSync(join(image, name), name, { mode: 0o640 });
  const found = () => (readdirSync(volume, { recursive: true }) as string[]).sort();
  return { image, mount, volume, found };
}

const commits = { btrfsCommit: async () => 1n };

test("an empty volume begins with the image's files, and one that has some is left alone", async (t) => {
  const { image, mount, volume, found } = places(t);
  await begin(commits, volume, image, mount);
  deepEqual(found(), ["a", "inner", "inner/b"]);
  equal(statSync(join(volume, "inner/b")).mode & 0o777, 0o640);
  deepEqual(readdirSync(mount), ["data"]);
  rmSync(join(volume, "inner"), { recursive: true });
  writeFileSync(join(volume, "a"), "changed");
  await begin(commits, volume, image, mount);
  deepEqual(found(), ["a"]);
  equal(readFileSync(join(volume, "a"), "utf8"), "changed");
});

test("a first copy that a crash cut short is begun anew", async (t) => {
  const { image, mount, volume, found } = places(t);
  const crash = { btrfsCommit: () => Promise.reject(new Error("power")) };
  await rejects(begin(crash, volume, image, mount), /power/);
  // What of it came to the disk.
  rmSync(join(volume, "inner/b"));
  writeFileSync(join(volume, "a"), "");
  await begin(commits, volume, image, mount);
  deepEqual(found(), ["a", "inner", "inner/b"]);
  equal(readFileSync(join(volume, "a"), "utf8"), "a");
  deepEqual(readdirSync(mount), ["data"]);
});

test("a volume in memory needs no mark and no commit", async (t) => {
  const { image, mount, volume, found } = places(t);
  const none = { btrfsCommit: () => Promise.reject(new Error("not btrfs")) };
  await begin(none, volume, image, undefined);
  deepEqual([found(), readdirSync(mount)], [["a", "inner", "inner/b"], ["data"]]);
});
