// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { growthFor } from "./heap.ts";

const MiB = 2 ** 20;

test("a small heap has a fixed room, a large one what V8 gives it", () => {
  assert.equal(growthFor(16 * MiB), 400);
  assert.equal(growthFor(64 * MiB), 100);
  assert.equal(growthFor(256 * MiB), 25);
  assert.equal(growthFor(2048 * MiB), 0);
});

test("V8 takes the room for the next marking", () => {
  const program = `
    const { keepRoom } = await import(${JSON.stringify(new URL("heap.ts", import.meta.url).href)});
    const kept = Array.from({ length: 160 }, () => Array.from({ length: 16_384 }, (_, i) => i + 0.5));
    keepRoom();
    gc();
    await new Promise((resolve) => setTimeout(resolve, 50));
    gc();
    console.log(kept.length);
  `;
  const args = ["--expose-gc", "--trace-gc-verbose", "--input-type=module", "-e", program];
  const said = execFileSync(process.execPath, args, { encoding: "utf8", timeout: 60_000 });
  const limits = [...said.matchAll(/HeapController\] Limit: old size: (\d+) KB, new limit: (\d+) KB/g)];
  const [, size, limit] = limits.at(-1)!.map(Number);
  const grows = limit! - size!;
  // Without it 42 MiB here, and some 6 where little is allocated: V8 goes by how fast that is.
  assert.ok(grows > 56 * 1024 && grows < 100 * 1024, `from ${size} KiB to ${limit}`);
});
