// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import { firstGeneration, type Ticket, volumeVersion } from "@caisson/protocol/volumes";
import { anchorVolume, type Opening, openVolume, operate, restored, type VolumeRecord } from "./rules.ts";

const key = { owner: "0a".repeat(32), seed: "0b".repeat(20), name: "data" };
const jump = 70_000n;
const opening: Opening = { key, restored: false, fresh: "ab".repeat(32), jump, now: 5 };

const opened = (record?: VolumeRecord, change: Partial<Opening> = {}): VolumeRecord => {
  const { record: after, denial } = openVolume(record, { ...opening, ...change });
  equal(denial, undefined);
  return after!;
};
const anchored = (record: VolumeRecord, n: bigint): VolumeRecord => {
  const { volume, epoch } = record;
  const generation = firstGeneration(epoch) + n;
  const { record: after, denial } = anchorVolume(record, { volume, epoch, generation }, 6);
  equal(denial, undefined);
  return after!;
};
const ticketOf = (
  { volume, secretVersion, epoch, anchor, chain }: VolumeRecord,
  change: Partial<Ticket> = {},
): Ticket => ({
  version: volumeVersion,
  ...key,
  volume,
  secretVersion,
  epoch: String(epoch),
  anchor: String(anchor),
  chain,
  signature: "",
  ...change,
});

test("a volume is new until something of it is anchored, and then never again", () => {
  const first = opened();
  deepEqual([first.state, first.epoch, first.anchor, first.suspect], ["creating", 1n, 0n, false]);
  const again = opened(first, { fresh: "cd".repeat(32) });
  deepEqual([again.state, again.epoch, again.volume], ["creating", 2n, first.volume]);
  const live = anchored(again, 1n);
  deepEqual([live.state, live.anchor], ["live", firstGeneration(2n) + 1n]);
  equal(opened(live).state, "live");
});

test("only the newest opening anchors, only its own generations, and only upwards", () => {
  const record = anchored(opened(), 5n);
  const { volume } = record;
  const next = opened(record);
  const code = (epoch: bigint, generation: bigint, id = volume) =>
    anchorVolume(next, { volume: id, epoch, generation }, 7).denial?.code;
  equal(code(1n, firstGeneration(1n) + 6n), "volume/fenced");
  equal(code(2n, firstGeneration(1n) + 6n), "volume/generation");
  equal(code(2n, firstGeneration(3n)), "volume/generation");
  equal(code(2n, firstGeneration(2n) + 1n, "ef".repeat(32)), "volume/unknown");
  const later = anchored(next, 3n);
  const repeated = { volume, epoch: 2n, generation: later.anchor };
  deepEqual(anchorVolume(later, repeated, 9), {});
  const lower = { volume, epoch: 2n, generation: later.anchor - 1n };
  equal(anchorVolume(later, lower, 9).denial?.code, "volume/generation");
  equal(anchorVolume(undefined, repeated, 9).denial?.code, "volume/unknown");
});

test("a ticket that is newer than what is known moves the KMS forward, an older one does nothing", () => {
  const old = anchored(opened(), 1n);
  const newer = anchored(opened(old), 4n);
  const moved = opened(old, { ticket: ticketOf(newer) });
  // Behind what any opening may have got that left no ticket: its guest may live, and fenced who had the ticket.
  deepEqual([moved.epoch, moved.anchor], [2n + jump + 1n, newer.anchor]);
  const within = opened(opened(old), { ticket: ticketOf(newer) });
  deepEqual([within.epoch, within.anchor], [2n + jump + 1n, newer.anchor]);
  const same = opened(newer, { ticket: ticketOf(old) });
  deepEqual([same.epoch, same.anchor], [3n, newer.anchor]);
});

test("another volume's disk is refused, and so is the disk of a volume that was deleted for one that lives", () => {
  const live = anchored(opened(), 1n);
  const other = ticketOf(live, { name: "other" });
  equal(openVolume(undefined, { ...opening, ticket: other }).denial?.code, "volume/other-disk");
  equal(openVolume(live, { ...opening, ticket: other }).denial?.code, "volume/other-disk");
  const gone = operate(live, "delete", 7);
  const fresh = opened(gone, { ticket: ticketOf(live), fresh: "cd".repeat(32) });
  deepEqual([fresh.state, fresh.volume], ["creating", "cd".repeat(32)]);
  const grown = anchored(fresh, 1n);
  equal(openVolume(grown, { ...opening, ticket: ticketOf(live) }).denial?.code, "volume/other-disk");
  equal(opened(fresh, { ticket: ticketOf(live) }).epoch, 2n);
});

test("after a restore every volume waits for an operator, and no epoch is given out again", () => {
  const known = restored(anchored(opened(), 1n), jump, 8);
  equal(openVolume(known, opening).denial?.code, "volume/suspect");
  const allowed = operate(known, "allow", 9);
  equal(opened(allowed).epoch, 2n + jump);
});

test("a volume that a restored KMS does not know is not made anew: the ticket tells what it was, and an operator decides", () => {
  const lost = anchored(opened(), 1n);
  const { record, denial } = openVolume(undefined, { ...opening, ticket: ticketOf(lost) });
  equal(denial?.code, "volume/suspect");
  deepEqual(
    [record?.volume, record?.state, record?.anchor, record?.epoch],
    [lost.volume, "live", lost.anchor, lost.epoch + jump],
  );
  equal(opened(operate(record!, "allow", 9)).state, "live");
  const blank = openVolume(undefined, { ...opening, restored: true });
  equal(blank.denial?.code, "volume/suspect");
});

test("every change is in the chain, and two changes never give the same", () => {
  const first = opened();
  const chains = [
    first,
    opened(first),
    anchored(first, 1n),
    anchored(first, 2n),
    operate(first, "suspect", 7),
  ].map(({ chain }) => chain);
  equal(new Set(chains).size, chains.length);
});

test("a volume is opened less than 2^23 times", () => {
  const worn = { ...opened(), epoch: (1n << 23n) - 1n };
  equal(openVolume(worn, opening).denial?.code, "volume/worn");
});
