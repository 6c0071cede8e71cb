// SPDX-License-Identifier: Apache-2.0
/**
 * The crash fork where epochs are *not* unique: the control of test/attacks/volumes.test.ts. The KMS is put back between two
 * branches, so that it gives out one epoch twice, which is what stamping with unique epochs prevents. Then a node of the
 * abandoned branch is accepted, and the application sees a mixture that no checksum notices.
 */
import { deepEqual, equal, notDeepEqual, ok } from "node:assert/strict";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type NodeFacts, nodes, readSealed, volumeKeys, writeSealed } from "../support/volume-disk.ts";
import { ask, counterImage, VolumeHost } from "../support/volume-host.ts";

let host: VolumeHost;
before(async () => {
  host = new VolumeHost(await counterImage(join(mkdtempSync(join(tmpdir(), "caisson-counter-")), "counter")));
});
after(() => host.remove());

/** Longer than the guest waits before it commits what was written. */
const commitMs = 8_000;

/** Opens the volume, writes a balance, waits for the commit, and pulls the plug. */
async function branch(balance: string, kept: string): Promise<void> {
  const boot = await host.boot();
  equal(boot.reason, "ready", boot.message);
  await ask(boot, "POST", "write?name=balance", balance);
  await sleep(commitMs);
  await host.pull(boot);
  host.keep("disk", kept);
}

/** The newest leaf of the tree of files. */
const leaf = (all: readonly NodeFacts[]): NodeFacts =>
  all
    .filter(({ owner, level }) => owner === 5n && level === 0)
    .reduce((a, b) => (a.generation > b.generation ? a : b));

test("with one epoch given out twice, a node of an abandoned branch is accepted: why epochs are never reused", async () => {
  const first = await host.boot();
  equal(first.reason, "ready", first.message);
  await ask(first, "POST", "write?name=balance", "100");
  await ask(first, "POST", "increment");
  await host.pull(first);
  host.keep("disk", "base");
  host.keep("kms", "kms-base");

  await branch("999", "a");
  host.putBack("disk", "base");
  host.putBack("kms", "kms-base");
  await branch("5", "b");

  const keys = await volumeKeys(host.state);
  const [a, b] = [nodes(host.kept("a"), keys), nodes(host.kept("b"), keys)];
  const live = leaf(b);
  const twin = a.find(
    ({ at, generation, owner }) => at === live.at && generation === live.generation && owner === live.owner,
  );
  ok(twin, "the branches did not write the same place: nothing to exchange");
  notDeepEqual(twin.content, live.content);
  writeSealed(host.disk, live.at, readSealed(host.kept("a"), live.at));
  const mixed = await host.boot();
  equal(mixed.reason, "ready", mixed.message);
  deepEqual(await ask(mixed, "GET", "read?name=balance"), 999, "the attack did not work");
});
