// SPDX-License-Identifier: Apache-2.0
/**
 * A host that answers the guest's reads as it likes, and whose power fails when it likes, under the whole stack: two openings
 * are recorded (test/support/hostile-disk.ts), then blocks go back to what they were, while the volume is opened and while
 * the machine runs. Some flushes of the record are crashed at; test/nightly/volume-crash.test.ts does it at every one.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { reservedSize } from "@caisson/protocol/volumes";
import { RecordedVolume, superblockPlaces } from "../support/recorded-volume.ts";
import { ask, counterImage } from "../support/volume-host.ts";

const [superblock] = superblockPlaces;
const place = mkdtempSync(join(tmpdir(), "caisson-volume-disk-"));
let recorded: RecordedVolume;
before(async () => {
  recorded = await RecordedVolume.record(await counterImage(join(place, "counter")), 256 << 20);
});
after(async () => {
  await recorded?.remove();
  rmSync(place, { recursive: true });
});

test("the kernel is shown a whole state that is older than what PID 1 stamped, and PID 1 notices", async () => {
  const { disk } = recorded;
  const begun = disk.events.length;
  let answered = 0;
  disk.answer = (at, honest) => {
    const written = new Set(disk.events.slice(begun).map((event) => ("at" in event ? event.at : undefined)));
    // Once the stamp is whole: everything that it changed is what it was.
    if (!written.has(superblock) || !written.has(at) || at < reservedSize) return honest;
    answered++;
    return disk.before(at)!;
  };
  const boot = await recorded.boot();
  disk.answer = (_, honest) => honest;
  ok(answered >= 2, `${answered} reads were answered otherwise: the test shows nothing`);
  equal(boot.reason, "volume/changed", boot.message);
});

/** From now on each read is answered with what was there before: nothing old is ever shown, and the machine ends. */
async function goBack(boot: Awaited<ReturnType<RecordedVolume["boot"]>>): Promise<void> {
  const { disk, content } = recorded;
  let answered = 0;
  disk.answer = (at, honest) => {
    const old = disk.before(at);
    if (old === undefined || old.equals(honest)) return honest;
    answered++;
    return old;
  };
  for (const [name, text] of content) {
    const shown = await ask(boot, "GET", `read?name=${name}`).catch(() => "an error");
    ok(shown === text || shown === "an error", `${name}: ${String(shown).slice(0, 60)}`);
  }
  ok(answered > 0, "no read was answered otherwise: the test shows nothing");
  const stopping = await boot.session.vm.event(({ kind }) => kind === "stopping");
  disk.answer = (_, honest) => honest;
  deepEqual(stopping?.kind === "stopping" && stopping.reason, "volume/read-error");
  await boot.session.stop();
}

test("blocks of a running machine go back: nothing old is ever shown, and the machine ends", async () => {
  const boot = await recorded.boot();
  equal(boot.reason, "ready", boot.message);
  await goBack(boot);
});

test("a host without room stops the machine, which goes on when there is some; after a write, too, blocks that go back end it", async () => {
  const { disk } = recorded;
  const boot = await recorded.boot();
  equal(boot.reason, "ready", boot.message);
  const room = () => once(boot.session.vm, "room", { signal: AbortSignal.timeout(120_000) });
  disk.full = true;
  const [stopped, written] = [room(), ask(boot, "POST", "increment")];
  deepEqual(await stopped, [false]);
  disk.full = false;
  const goesOn = room();
  const { count } = (await written) as { count: number };
  deepEqual(await goesOn, [true]);
  deepEqual(await ask(boot, "GET", ""), { count });
  // What a write made the kernel read is not read again: here nodes alone are wrong.
  await goBack(boot);
});

test("the power fails at a flush, with half of what was not flushed: the volume opens and holds every promise", async () => {
  const { flushes, disk } = recorded;
  ok(flushes.length > 30, `only ${flushes.length} flushes`);
  // While the file system is made, and late in the second opening while the kernel writes a superblock: half of it is there.
  const inSuperblock = flushes.findLast((count, index) => {
    const since = disk.events.slice(flushes[index - 1], count);
    return superblockPlaces.every((wanted) => since.some((event) => "at" in event && event.at === wanted));
  });
  ok(inSuperblock !== undefined, "no flush follows a superblock");
  for (const count of [flushes[Math.floor(flushes.length * 0.03)]!, inSuperblock])
    await recorded.fail(count, 1);
});
