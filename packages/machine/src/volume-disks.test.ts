// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, throws } from "node:assert/strict";
import { existsSync, mkdirSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { AppDescription } from "@caisson/protocol/guest-config";
import { reservedSize } from "@caisson/protocol/volumes";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { type VolumeDiskError, volumeDisks } from "./volume-disks.ts";

const MiB = 2 ** 20;

function place(t: TestContext): string {
  const directory = temporaryDirectory("disks", t);
  return directory;
}

const app = (volumes: AppDescription["volumes"]): AppDescription => ({
  name: "a",
  services: {},
  networks: {},
  volumes,
});
const kept = (size: number) => ({ size, persistent: { kmsAway: "continue" } }) as const;

test("disks are made sparse, in the order of their names, used again, grown, and never made shorter", (t) => {
  const state = place(t);
  const first = volumeDisks(state, app({ b: kept(300 * MiB), a: kept(256 * MiB), memory: {} }));
  deepEqual(
    first.map(({ name, size, state: what }) => [name, size, what]),
    [
      ["a", 256 * MiB + reservedSize, "made"],
      ["b", 300 * MiB + reservedSize, "made"],
    ],
  );
  equal(
    first.every(({ used }) => used < MiB),
    true,
  );
  equal(statSync(first[0]!.path).mode & 0o777, 0o600);
  writeFileSync(first[0]!.path, "content", { flag: "r+" });
  const again = volumeDisks(state, app({ a: kept(512 * MiB), b: kept(256 * MiB) }));
  deepEqual(
    again.map(({ size, state: what }) => [size, what]),
    [
      [512 * MiB + reservedSize, "grown"],
      [300 * MiB + reservedSize, "reused"],
    ],
  );
});

test("an image without persistent volumes leaves nothing on the host", (t) => {
  const state = place(t);
  deepEqual(volumeDisks(state, app({ memory: {} })), []);
  equal(statSync(join(state, "volumes"), { throwIfNoEntry: false }), undefined);
});

test("what is in the place of a volume and is not a file is left alone, and said", (t) => {
  const state = place(t);
  const one = app({ a: kept(256 * MiB) });
  const path = join(state, "volumes", "a.img");
  const refused = (reason: RegExp) =>
    throws(
      () => volumeDisks(state, one),
      (error: VolumeDiskError) => error.code === "up/volume" && reason.test(error.message),
    );
  mkdirSync(path, { recursive: true });
  refused(/a\.img cannot be used: it is not a file/);
  rmSync(path, { recursive: true });
  // A disk that is not mounted: a new volume in its place would be taken for a lost one.
  symlinkSync(join(state, "elsewhere"), path);
  refused(/a link to what is not there/);
  equal(existsSync(join(state, "elsewhere")), false);
  writeFileSync(join(state, "elsewhere"), "");
  deepEqual(
    [volumeDisks(state, one)[0]!.state, statSync(join(state, "elsewhere")).size > MiB],
    ["grown", true],
  );
  rmSync(join(state, "volumes"), { recursive: true });
  writeFileSync(join(state, "volumes"), "");
  refused(/cannot be used/);
});

test("a file that the host cannot make leaves nothing behind", (t) => {
  const state = place(t);
  // Beyond what a file can have (EFBIG), as a host's limit or a full quota would be.
  throws(() => volumeDisks(state, app({ a: kept(2 ** 62) })), { code: "up/volume", kind: "unavailable" });
  equal(existsSync(join(state, "volumes", "a.img")), false);
});
