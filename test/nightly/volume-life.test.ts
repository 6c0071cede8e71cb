// SPDX-License-Identifier: Apache-2.0
/**
 * A volume through the life of its application: another version of the image, in which it is larger and its service a
 * contained one, another directory as its host, a KMS that was restored, and a disk that goes bad while it is used.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { openVolumeBook } from "@caisson/kms";
import type { VolumeKeys } from "@caisson/protocol/derivation";
import { foreignNode, nodes, readSealed, volumeKeys, writeSealed } from "../support/volume-disk.ts";
import { ask, counterImage, VolumeHost } from "../support/volume-host.ts";

const place = mkdtempSync(join(tmpdir(), "caisson-life-"));
let host: VolumeHost;
before(async () => {
  host = new VolumeHost(await counterImage(join(place, "counter")));
});
after(async () => {
  await host.remove();
  rmSync(place, { recursive: true });
});

const compose = `services:
  counter:
    x-caisson: { node: ./app/server.mjs, socket: true }
    user: "0:0"
    ports: ["8080:8080"]
    volumes: ["data:/data"]
volumes: { data: {} }
`;

test("a first version counts", async () => {
  const boot = await host.boot();
  equal(boot.reason, "ready", boot.message);
  deepEqual(((await ask(boot, "POST", "increment")) as { count: number }).count, 1);
  await boot.session.stop();
});

test("the next version is another image, finds its volume, and makes it larger", async () => {
  const built = await counterImage(join(place, "larger"), { "size: 256MiB": "size: 512MiB" });
  const boot = await host.boot({}, built);
  equal(boot.reason, "ready", boot.message);
  equal(boot.session.volumes[0]?.state, "grown");
  deepEqual(await ask(boot, "GET", ""), { count: 1 });
  for (let index = 0; index < 12; index++) {
    await ask(
      boot,
      "POST",
      `write?name=large${index}`,
      randomBytes(24 << 20)
        .toString("latin1")
        .slice(0, 24 << 20),
    );
  }
  deepEqual(((await ask(boot, "POST", "increment")) as { count: number }).count, 2);
  await host.pull(boot);
  host.built.directory = built.directory;
  host.built.manifest = built.manifest;
});

test("another directory is another host: disk, seed and KMS go there, and the count goes on", async () => {
  const moved = new VolumeHost(host.built);
  mkdirSync(moved.state, { recursive: true, mode: 0o700 });
  for (const name of ["volumes", "instance-seed", "volume-owner", "kms"]) {
    cpSync(join(host.state, name), join(moved.state, name), { recursive: true });
  }
  await host.remove();
  host = moved;
  const boot = await host.boot();
  equal(boot.reason, "ready", boot.message);
  deepEqual(((await ask(boot, "POST", "increment")) as { count: number }).count, 3);
  await host.pull(boot);
});

test("a KMS that was restored asks an operator, and then goes on", async () => {
  const book = await openVolumeBook(join(host.state, "kms"));
  await book.markRestored();
  await book.close();
  const refused = await host.boot();
  equal(refused.reason, "keys/denied/volume/suspect", refused.message);
  const again = await openVolumeBook(join(host.state, "kms"));
  const [record] = await again.list();
  await again.operate(record!.volume, "allow");
  await again.close();
  const boot = await host.boot();
  equal(boot.reason, "ready", boot.message);
  deepEqual(await ask(boot, "GET", ""), { count: 3 });
  await host.pull(boot);
});

/** Boots a disk whose nodes of this tree are others; it ends, at the latest when they are used. Then the disk is as before. */
async function endsWith(tree: bigint, change: (keys: VolumeKeys, places: number[]) => void): Promise<void> {
  host.keep("disk", "good");
  const keys = await volumeKeys(host.state);
  const places = nodes(host.disk, keys).flatMap(({ at, owner }) => (owner === tree ? [at] : []));
  ok(places.length > 1, `${places.length} nodes: the test shows nothing`);
  change(keys, places);
  const boot = await host.boot();
  if (boot.reason === "ready") {
    await ask(boot, "GET", "read?name=large1").catch(() => undefined);
    const stopping = await boot.session.vm.event(({ kind }) => kind === "stopping");
    equal(stopping?.kind === "stopping" && stopping.reason, "volume/read-error");
  } else match(boot.reason, /^volume\//, boot.message);
  await boot.session.stop();
  host.putBack("disk", "good");
}

/** The trees of checksums, and of files (btrfs, include/uapi/linux/btrfs_tree.h). */
const [checksums, files] = [7n, 5n];

test("nodes that are garbled end the machine", () =>
  endsWith(checksums, (_, places) => {
    for (const at of places) writeSealed(host.disk, at, randomBytes(4096));
  }));

test("nodes that change places end the machine", () =>
  endsWith(files, (_, places) => {
    const sealed = places.map((at) => readSealed(host.disk, at));
    for (const [index, at] of places.entries())
      writeSealed(host.disk, at, sealed[(index + 1) % places.length]!);
  }));

test("nodes that are right but for the file system's id, which is a secret, end the machine", () =>
  endsWith(checksums, (keys, places) => {
    for (const at of places) writeSealed(host.disk, at, foreignNode(keys, at, readSealed(host.disk, at)));
  }));

test("a contained service has the same volume, with the ids of its image", async (t) => {
  const directory = join(place, "contained");
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "compose.yaml"), compose);
  const built = await counterImage(directory, {
    "node: ./app/server.mjs\n  port: 8080": "compose: ./compose.yaml",
    "  # Where the application sees the volume.\n  volumes:\n    data: /data\n": "",
  });
  const contained = new VolumeHost(built);
  t.after(() => contained.remove());
  const boot = await contained.boot();
  equal(boot.reason, "ready", boot.message);
  deepEqual(((await ask(boot, "POST", "increment")) as { count: number }).count, 1);
  await contained.pull(boot);
  const again = await contained.boot();
  deepEqual(await ask(again, "GET", ""), { count: 1 });
  await contained.pull(again);
});
