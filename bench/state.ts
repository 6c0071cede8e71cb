// SPDX-License-Identifier: Apache-2.0
/**
 * Persistent volumes: what an anchor costs one KMS beside a durable write of the same disk, alone and with many at once;
 * what an opening reads and writes before the mount; the kernel with and without them. Times of a guest's disk need
 * hardware: under emulation they would say nothing, and are not here.
 */
import {
  closeSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Row } from "@caisson/cli/commands/bench";
import { type Opened, openStore, sqlite, storeKeys, VolumeBook } from "@caisson/kms";
import { deriveVolumeKeys } from "@caisson/protocol/derivation";
import { anchorRequest, firstGeneration } from "@caisson/protocol/volumes";
import { blockSize } from "../packages/guest/src/volumes/btrfs.ts";
import { prepareVolume } from "../packages/guest/src/volumes/prepare.ts";
import { templateSize } from "../packages/guest/src/volumes/template.ts";

const kernels = new URL("../kernel/", import.meta.url).pathname;
const seconds = 3;
const secret = new Uint8Array(32).fill(1);
const seed = "0b".repeat(20);
const owner = "0a".repeat(32);

/** How often `one` is done in a second, `width` of them at a time. */
async function perSecond(width: number, one: (lane: number) => Promise<void> | void): Promise<number> {
  const end = performance.now() + seconds * 1000;
  let done = 0;
  const started = performance.now();
  const lanes = Array.from({ length: width }, async (_, lane) => {
    while (performance.now() < end) {
      await one(lane);
      done++;
    }
  });
  await Promise.all(lanes);
  return done / ((performance.now() - started) / 1000);
}

/** A KMS with `width` open volumes, each of which anchors one commit after the other. */
async function anchors(place: string, width: number): Promise<number> {
  const keys = storeKeys(secret);
  const store = await openStore(sqlite(join(place, `log-${width}.sqlite`)), keys);
  const book = new VolumeBook(store, secret, keys.identity, Date.now);
  const lanes: (Opened & { next: bigint })[] = [];
  for (let lane = 0; lane < width; lane++) {
    const opened = await book.open({ owner, seed, name: `v${lane}` }, undefined);
    if ("code" in opened) throw new Error(opened.message);
    lanes.push({ ...opened, next: firstGeneration(1n) });
  }
  const rate = await perSecond(width, async (lane) => {
    const one = lanes[lane]!;
    one.next += 1n;
    const request = anchorRequest(one.anchorKey, { ...one.grant, owner, seed }, one.next);
    if (!book.isAuthentic(request)) throw new Error("not authentic");
    const answer = await book.anchor(request);
    if ("code" in answer) throw new Error(answer.message);
  });
  await book.close();
  return rate;
}

/** A write of 4 KiB and a flush: what no durable promise can do without. */
async function flushes(place: string): Promise<number> {
  const file = openSync(join(place, "flushes"), "w");
  const bytes = new Uint8Array(blockSize);
  const rate = await perSecond(1, () => {
    writeSync(file, bytes, 0, bytes.length, 0);
    fsyncSync(file);
  });
  closeSync(file);
  return rate;
}

/** Blocks that an opening reads and writes of a volume before the kernel mounts it. */
async function openingBlocks(): Promise<{ read: number; written: number }> {
  const keys = deriveVolumeKeys(secret);
  const blocks = new Map<number, Uint8Array>();
  let count = { read: 0, written: 0 };
  const io = {
    read: async (at: number) => {
      count.read++;
      return blocks.get(at) ?? new Uint8Array(blockSize);
    },
    put: async (...all: readonly { at: number; bytes: Uint8Array }[]) => {
      count.written += all.length;
      for (const { at, bytes } of all) blocks.set(at, bytes);
    },
    readRedo: async () => undefined,
    writeRedo: async () => void (count.written += 3),
  };
  const device = { least: 0n, deviceSize: templateSize };
  await prepareVolume(io, keys, { ...device, made: true, to: firstGeneration(1n) });
  count = { read: 0, written: 0 };
  await prepareVolume(io, keys, { ...device, made: false, to: firstGeneration(2n) });
  return count;
}

/** Symbols that are built in. */
const symbols = (name: string): number =>
  readFileSync(join(kernels, name), "utf8").match(/^CONFIG_\w+=y$/gm)!.length;

export async function* run(): AsyncIterable<Row> {
  const place = mkdtempSync(join(tmpdir(), "caisson-bench-"));
  try {
    const peer = await flushes(place);
    const note = "peer: a write of 4 KiB and its flush, one after the other, on the same disk";
    yield { name: "anchors of one volume", unit: "1/s", ours: await anchors(place, 1), peer, note };
    yield { name: "anchors of 64 volumes at once", unit: "1/s", ours: await anchors(place, 64), peer, note };
    const log = statSync(join(place, "log-64.sqlite")).size;
    yield { name: "log after them", unit: "MiB", ours: log / 2 ** 20 };
  } finally {
    rmSync(place, { recursive: true });
  }
  const { read, written } = await openingBlocks();
  const blocks = "limit: superblock, one leaf of chunks, root; a record and both again";
  yield { name: "blocks read before the mount", unit: "blocks", ours: read, limit: 3, note: blocks };
  yield { name: "blocks written before the mount", unit: "blocks", ours: written, limit: 5, note: blocks };
  yield {
    name: "kernel symbols with volumes",
    unit: "symbols",
    ours: symbols("resolved-volumes-production.config"),
    peer: symbols("resolved-services-production.config"),
    note: "peer: contained services without volumes",
  };
}
