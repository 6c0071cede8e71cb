// SPDX-License-Identifier: Apache-2.0
import { deepEqual } from "node:assert/strict";
import { test } from "node:test";
import type { Lock, LockedPackage } from "./lock.ts";
import { lockChanges } from "./lock-changes.ts";

const lock = (images: Record<string, string>, packages: [name: string, version: string][]): Lock => ({
  version: 1,
  suites: [],
  packages: packages.map(([name, version]) => ({ name, version }) as LockedPackage),
  npm: [],
  ...(Object.keys(images).length > 0 && {
    images: Object.entries(images).map(([reference, digest]) => ({ reference, digest })),
  }),
});

test("what moved, came and went, images first", () => {
  const before = lock({ "a:1": "x", "b:1": "y" }, [["p", "1"], ["q", "1"], ["q", "2"], ["r", "1"]]); // biome-ignore format: a row
  const after = lock({ "a:1": "z", "c:1": "w" }, [["p", "1"], ["q", "1"], ["q", "3"], ["s", "1"]]); // biome-ignore format: a row
  deepEqual(lockChanges(before, after), [
    { name: "a:1", before: "x", after: "z" },
    { name: "b:1", before: "y" },
    { name: "c:1", after: "w" },
    { name: "q", before: "1, 2", after: "1, 3" },
    { name: "r", before: "1" },
    { name: "s", after: "1" },
  ]);
  deepEqual(lockChanges(before, before), []);
  deepEqual(lockChanges(lock({}, []), lock({}, [])), []);
});
