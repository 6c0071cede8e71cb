// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, notDeepEqual, rejects } from "node:assert/strict";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { verifySignature } from "@caisson/protocol/ed25519";
import {
  type AnchorRequest,
  anchorRequest,
  firstGeneration,
  type Ticket,
  ticketTranscript,
} from "@caisson/protocol/volumes";
import { sqlite } from "../store/sqlite.ts";
import { openStore, storeKeys } from "../store/store.ts";
import { type Opened, VolumeBook } from "./book.ts";

const secret = new Uint8Array(32).fill(5);
const keys = storeKeys(secret);
const key = { owner: "0a".repeat(32), seed: "0b".repeat(20), name: "data" };

async function book(t: TestContext, path?: string): Promise<{ book: VolumeBook; path: string }> {
  const place = path ?? join(mkdtempSync(join(tmpdir(), "caisson-book-")), "log.sqlite");
  const opened = new VolumeBook(await openStore(sqlite(place), keys), secret, keys.identity, () => 5);
  t.after(async () => {
    await opened.close().catch(() => undefined);
    if (path === undefined) rmSync(join(place, ".."), { recursive: true, force: true });
  });
  return { book: opened, path: place };
}

async function open(volumes: VolumeBook, ticket?: Ticket): Promise<Opened> {
  const opened = await volumes.open(key, ticket);
  if ("code" in opened) throw new Error(opened.code);
  return opened;
}

function request({ grant, anchorKey }: Opened, n: bigint): AnchorRequest {
  const generation = firstGeneration(BigInt(grant.epoch)) + n;
  return anchorRequest(anchorKey, { ...key, ...grant }, generation);
}

async function anchor(volumes: VolumeBook, opened: Opened, n: bigint): Promise<Ticket> {
  const ticket = await volumes.anchor(request(opened, n));
  if ("code" in ticket) throw new Error(ticket.code);
  return ticket;
}

test("an opening has a secret that stays and an anchor key of its own; its anchors are signed", async (t) => {
  const { book: volumes } = await book(t);
  const first = await open(volumes);
  deepEqual([first.grant.state, first.grant.epoch, first.grant.anchor], ["creating", "1", "0"]);
  const ticket = await anchor(volumes, first, 1n);
  const { signature, ...rest } = ticket;
  equal(
    verifySignature(keys.identity.publicKey, ticketTranscript(rest), Uint8Array.fromHex(signature)),
    true,
  );
  const second = await open(volumes);
  deepEqual(second.secret, first.secret);
  notDeepEqual(second.anchorKey, first.anchorKey);
  deepEqual([second.grant.state, second.grant.anchor], ["live", ticket.anchor]);
  await rejects(anchor(volumes, first, 2n), /volume\/fenced/);
});

test("a message of another opening, or with one field changed, is not authentic", async (t) => {
  const { book: volumes } = await book(t);
  const [first, second] = [await open(volumes), await open(volumes)];
  const good = request(second, 1n);
  equal(volumes.isAuthentic(good), true);
  for (const change of [
    { mac: request(first, 1n).mac },
    { generation: request(second, 2n).generation },
    { epoch: "3" },
    { name: "other" },
    { seed: "0c".repeat(20) },
    { owner: "0c".repeat(32) },
    { volume: "0c".repeat(32) },
  ]) {
    equal(volumes.isAuthentic({ ...good, ...change }), false, JSON.stringify(change));
  }
});

test("what was anchored is there after the KMS ended; a KMS that was put back goes forward by the ticket", async (t) => {
  const { book: volumes, path } = await book(t);
  const first = await open(volumes);
  await anchor(volumes, first, 1n);
  await volumes.close();
  const { book: again } = await book(t, path);
  equal((await again.list())[0]?.anchor, firstGeneration(1n) + 1n);

  const { book: old } = await book(t);
  const other = await open(old);
  await anchor(old, other, 1n);
  const newer = await anchor(old, await open(old), 9n);
  const forged: Ticket = { ...newer, anchor: String(BigInt(newer.anchor) + 1n) };
  const opened = await open(old, forged);
  equal(opened.grant.anchor, newer.anchor, "a ticket that this KMS did not sign was believed");
});

test("anchors at the same time are all taken, each once", async (t) => {
  const { book: volumes } = await book(t);
  const opened: Opened[] = [];
  for (const name of ["a", "b", "c", "d"]) {
    const one = await volumes.open({ ...key, name }, undefined);
    if ("code" in one) throw new Error(one.code);
    opened.push(one);
  }
  const tickets = await Promise.all(
    opened.flatMap((one) => [1n, 2n, 3n].map((n) => volumes.anchor(request(one, n)))),
  );
  equal(tickets.filter((ticket) => !("code" in ticket)).length >= 4, true);
  for (const { anchor: reached } of await volumes.list()) equal(reached, firstGeneration(1n) + 3n);
});

test("an operator's word, and a restore that marks everything", async (t) => {
  const { book: volumes } = await book(t);
  const { grant } = await open(volumes);
  const id = grant.volume.slice(0, 12);
  equal((await volumes.operate(id, "suspect")).suspect, true);
  await rejects(open(volumes), /volume\/suspect/);
  await volumes.operate(id, "allow");
  equal((await open(volumes)).grant.epoch, "2");
  equal(await volumes.markRestored(), 1);
  await rejects(open(volumes), /volume\/suspect/);
  await rejects(
    volumes.open({ ...key, name: "new" }, undefined).then((one) => Promise.reject(one)),
    {
      code: "volume/suspect",
    },
  );
  await volumes.operate(id, "allow");
  equal(BigInt((await open(volumes)).grant.epoch) > 65_536n, true);
  await volumes.operate(id, "delete");
  await rejects(volumes.find("00000000"), { code: "volumes/unknown" });
  await rejects(volumes.find(id.slice(0, 7)), { code: "volumes/unknown" });
});

test("restored again and again before any machine came up: each opening is beyond those in between, which stay fenced", async (t) => {
  const { book: volumes, path } = await book(t);
  const ticket = await anchor(volumes, await open(volumes), 1n);
  await volumes.close();
  // With a copy of the database, and with none, where the ticket tells what there was.
  for (const copied of [true, false]) {
    let before: Opened | undefined;
    for (let earlier = 0; earlier < 6; earlier++) {
      const place = join(mkdtempSync(join(tmpdir(), "caisson-book-")), "log.sqlite");
      t.after(() => rmSync(join(place, ".."), { recursive: true, force: true }));
      if (copied) copyFileSync(path, place);
      const { book: restored } = await book(t, place);
      await restored.markRestored(earlier);
      await rejects(open(restored, ticket), /volume\/suspect/);
      await restored.operate(ticket.volume, "allow");
      // Whatever may have been opened before the next loss.
      let opened = await open(restored, copied ? undefined : ticket);
      for (let more = 0; more < 5; more++) opened = await open(restored);
      if (before !== undefined) {
        const [now, then] = [opened, before].map(({ grant }) => BigInt(grant.epoch)) as [bigint, bigint];
        equal(now > then + 30_000n, true, `${then}, then ${now}`);
        await rejects(anchor(restored, before, 1n), /volume\/fenced/);
      }
      await anchor(restored, opened, 1n);
      before = opened;
      await restored.close();
    }
  }
});

test("a copy of the database that knows of restores counts them, also where its operators do not", async (t) => {
  const { book: volumes } = await book(t);
  await anchor(volumes, await open(volumes), 1n);
  const epoch = async () => (await volumes.list())[0]!.epoch;
  await volumes.markRestored();
  const first = await epoch();
  equal(first > 1n << 16n && first < 1n << 17n, true);
  // Nothing that it does not know of: one jump, not two.
  await volumes.markRestored(1);
  equal((await epoch()) - first < 1n << 17n, true);
  const second = await epoch();
  await volumes.markRestored(4);
  equal((await epoch()) - second > 2n << 17n, true);
});
