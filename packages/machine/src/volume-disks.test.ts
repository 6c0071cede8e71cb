// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { AppDescription } from "@caisson/protocol/guest-config";
import { reservedSize } from "@caisson/protocol/volumes";
import { volumeDisks } from "./volume-disks.ts";

const MiB = 2 ** 20;

function place(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "caisson-disks-"));
  t.after(() => rmSync(directory, { recursive: true }));
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
