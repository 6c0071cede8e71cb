// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, open, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { identityKey } from "@caisson/protocol/ed25519";
import { reservedSize, type Ticket, ticketTranscript, volumeVersion } from "@caisson/protocol/volumes";
import { decodeTicket, encodeTicket, openRedo, readTicket, sealRedo, writeTicket } from "./reserved.ts";

const kms = identityKey(new Uint8Array(32).fill(7));

function ticket(change: Partial<Ticket> = {}): Ticket {
  const { signature: _, ...unsigned } = {
    version: volumeVersion,
    volume: "ab".repeat(32),
    owner: "0a".repeat(32),
    seed: "0b".repeat(20),
    name: "data",
    secretVersion: 1,
    epoch: "3",
    anchor: String(3n << 40n),
    chain: "cd".repeat(32),
    signature: "",
    ...change,
  } as const;
  return { ...unsigned, signature: kms.sign(ticketTranscript(unsigned)).toHex() };
}

async function blank(t: TestContext) {
  const place = await mkdtemp(join(tmpdir(), "caisson-reserved-"));
  t.after(() => rm(place, { recursive: true }));
  const path = join(place, "disk");
  await writeFile(path, "");
  await truncate(path, reservedSize);
  const file = await open(path, "r+");
  t.after(() => file.close());
  return file;
}

test("the newest ticket is found, whichever place it is in, and the next goes to the other", async (t) => {
  const file = await blank(t);
  deepEqual(await readTicket(file, kms.publicKey), { ticket: undefined, next: 0 });
  let next: 0 | 1 = 0;
  for (const anchor of [(3n << 40n) + 1n, (3n << 40n) + 2n, (3n << 40n) + 3n]) {
    const one = ticket({ anchor: String(anchor) });
    await writeTicket(file, one, next);
    const found = await readTicket(file, kms.publicKey);
    deepEqual(found.ticket, one);
    equal(found.next, next === 0 ? 1 : 0);
    next = found.next;
  }
});

test("a newer opening counts more than a higher anchor, and a torn place leaves the other", async (t) => {
  const file = await blank(t);
  const [old, young] = [
    ticket({ epoch: "3", anchor: String(9n << 50n) }),
    ticket({ epoch: "4", anchor: "5" }),
  ];
  await writeTicket(file, old, 0);
  await writeTicket(file, young, 1);
  deepEqual((await readTicket(file, kms.publicKey)).ticket, young);
  await file.write(randomBytes(100), 0, 100, 8192 + 50);
  deepEqual(await readTicket(file, kms.publicKey), { ticket: old, next: 1 });
});

test("what this KMS did not sign is nothing: every flipped bit, another KMS, other lengths, noise", () => {
  const place = encodeTicket(ticket());
  const used = 4 + new DataView(place.buffer).getUint32(0);
  deepEqual(decodeTicket(place, kms.publicKey), ticket());
  equal(decodeTicket(place, identityKey(new Uint8Array(32)).publicKey), undefined);
  for (let bit = 0; bit < 8 * used; bit += 1) {
    const changed = Uint8Array.from(place);
    changed[bit >> 3]! ^= 1 << (bit & 7);
    const found = decodeTicket(changed, kms.publicKey);
    // A capital letter of a hexadecimal digit and the like are refused by the schema; nothing else may get through.
    equal(found, undefined, `bit ${bit}`);
  }
  for (const length of [0, 1, 4093, 0xffff_ffff]) {
    const changed = Uint8Array.from(place);
    new DataView(changed.buffer).setUint32(0, length);
    equal(decodeTicket(changed, kms.publicKey), undefined);
  }
  equal(decodeTicket(randomBytes(4096), kms.publicKey), undefined);
});

test("a stamp's record opens under its own volume's key alone, whole", () => {
  const key = randomBytes(32);
  const stamp = {
    to: 7n << 40n,
    root: { at: 5_242_880, bytes: randomBytes(4096) },
    superblock: { at: 65_536, bytes: randomBytes(4096) },
  };
  const sealed = sealRedo(key, stamp);
  const opened = openRedo(key, sealed);
  equal(opened?.to, stamp.to);
  deepEqual(
    opened?.blocks.map(({ at, bytes }) => ({ at, bytes: Buffer.from(bytes) })),
    [stamp.root, stamp.superblock],
  );
  equal(openRedo(randomBytes(32), sealed), undefined);
  equal(openRedo(key, sealed.subarray(1)), undefined);
  for (let at = 0; at < sealed.length; at += 211) {
    const changed = Uint8Array.from(sealed);
    changed[at]! ^= 1;
    equal(openRedo(key, changed), undefined, String(at));
  }
});
