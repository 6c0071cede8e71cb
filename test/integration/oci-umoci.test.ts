// SPDX-License-Identifier: Apache-2.0
/**
 * Our reader of layers against umoci, on layers that nobody would write: the same tree, or a refusal that has a name.
 */
import { deepEqual, match, ok } from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ImageError } from "@caisson/image/errors";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import fc from "fast-check";
import { importImage } from "../../packages/image/src/oci/oci.ts";
import { openLayout } from "../../packages/image/src/oci/oci-layout.ts";
import { isRoot, ours, type Rows, run, theirs, writeLayout } from "../support/image-tree.ts";
import { layerArchive, layerOf } from "../support/layers.ts";

const place = temporaryDirectory("umoci");
process.umask(0o022); // what umoci gives to directories that no entry names
const layout = join(place, "layout");
const rootfs = join(place, "rootfs");

function umoci() {
  rmSync(rootfs, { recursive: true, force: true });
  return run("umoci", "raw", "unpack", ...(isRoot ? [] : ["--rootless"]), "--image", `${layout}:t`, rootfs);
}

const read = async (source: Promise<Parameters<typeof importImage>[0]>): Promise<Rows | ImageError> => {
  try {
    return ours((await importImage(await source)).tree);
  } catch (error) {
    if (error instanceof ImageError) return error;
    throw error;
  }
};

/** What we refuse and umoci takes: a symlink above the root, as Docker refuses it, too. */
const stricter = /links out of its root/;

test("random layers: the tree of umoci, or a refusal", async () => {
  const seen = { equal: 0, refused: 0, stricter: 0 };
  await fc.assert(
    fc.asyncProperty(fc.array(layerOf(8), { minLength: 1, maxLength: 3 }), async (layers) => {
      writeLayout(layout, layers.map(layerArchive));
      const { ok: accepted, stderr } = umoci();
      const found = await read(openLayout(layout, "t"));
      if (found instanceof ImageError) {
        match(found.code, /^(?:oci\/layer|archive\/(?:link|path))$/);
        if (accepted) match(found.message, stricter);
        seen[accepted ? "stricter" : "refused"]++;
        return;
      }
      ok(accepted, `umoci refuses what we take: ${stderr}`);
      deepEqual(found, theirs(rootfs));
      seen.equal++;
    }),
    { numRuns: 120, seed: 1, interruptAfterTimeLimit: 240_000, markInterruptAsFailure: false },
  );
  ok(seen.equal > 10 && seen.refused > 0, JSON.stringify(seen));
});
