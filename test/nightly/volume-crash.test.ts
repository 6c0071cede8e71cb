// SPDX-License-Identifier: Apache-2.0
/** The power fails at every flush of two openings, and each time another half of what was not flushed is on the disk. */
import { ok } from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { RecordedVolume } from "../support/recorded-volume.ts";
import { counterImage } from "../support/volume-host.ts";

const place = mkdtempSync(join(tmpdir(), "caisson-crash-"));
let recorded: RecordedVolume;
before(async () => {
  recorded = await RecordedVolume.record(await counterImage(join(place, "counter")), 256 << 20);
});
after(async () => {
  await recorded?.remove();
  rmSync(place, { recursive: true });
});

test("whenever the power fails, the volume opens and holds every promise", async (t) => {
  const { flushes } = recorded;
  ok(flushes.length > 30, `only ${flushes.length} flushes`);
  for (const [index, count] of flushes.entries()) {
    await t.test(`flush ${index + 1} of ${flushes.length}`, () => recorded.fail(count, index));
  }
});
