// SPDX-License-Identifier: Apache-2.0
/**
 * Persistent volumes: what an anchor costs one KMS beside a durable write of the same disk, alone and with many at once;
 * what an opening reads and writes before the mount, and whole for volumes of 1, 10 and 100 GiB; what a checkpoint writes;
 * four stacks of storage beside each other (peer/stacks.ts); the kernel with and without. Where the processor is emulated,
 * times compare instructions of an emulator and not hardware's: bytes and calls count there.
 */
import {
  closeSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Row } from "@caisson/cli/commands/bench";
import { type Opened, openStore, sqlite, storeKeys, VolumeBook } from "@caisson/kms";
import { deriveVolumeKeys } from "@caisson/protocol/derivation";
import { anchorRequest, firstGeneration, reservedSize } from "@caisson/protocol/volumes";
import { blockSize } from "../packages/guest/src/volumes/btrfs.ts";
import { prepareVolume } from "../packages/guest/src/volumes/prepare.ts";
import { templateSize } from "../packages/guest/src/volumes/template.ts";
import { HostileDisk } from "../test/support/hostile-disk.ts";
import { ask, counterImage, type Outcome, VolumeHost } from "../test/support/volume-host.ts";
import { median } from "./figures/figures.ts";
import { type DiskCalls, measureStacks, type StackJob, stackNames } from "./peer/stacks.ts";

const kernels = new URL("../kernel/", import.meta.url).pathname;
const seconds = 1;
const rounds = 9;
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

/** Rounds in turn, so that each ratio is of two things under the same load. */
async function* anchorRates(place: string): AsyncIterable<Row> {
  const all: { durable: number; one: number; many: number }[] = [];
  for (let round = 0; round < rounds; round++) {
    const here = mkdtempSync(join(place, "anchors-"));
    all.push({ durable: await flushes(here), one: await anchors(here, 1), many: await anchors(here, 64) });
  }
  const note = `peer: a write of 4 KiB and its flush on the same disk; medians of ${rounds} rounds in turn`;
  const row = (name: string, what: "one" | "many"): Row => ({
    name,
    unit: "1/s",
    ours: median(all.map((round) => round[what])),
    peer: median(all.map(({ durable }) => durable)),
    ratio: median(all.map((round) => round[what] / round.durable)),
    note,
  });
  yield row("anchors of one volume", "one");
  yield row("anchors of 64 volumes at once", "many");
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

interface Opening {
  /** Blocks that were read and written until the machine was ready, and seconds of its stage "volumes". */
  read: number;
  written: number;
  seconds: number;
}

const checkpoints = 20;

/** The second opening of a sparse volume of so many GiB, and what a checkpoint of one changed page wrote in the first. */
async function wholeOpening(
  place: string,
  gib: number,
): Promise<{ opening: Opening; blocks: number; flushes: number }> {
  const built = await counterImage(join(place, String(gib)), { "size: 256MiB": `size: ${gib}GiB` });
  const host = new VolumeHost(built);
  const file = join(place, `${gib}.img`);
  writeFileSync(file, "");
  truncateSync(file, reservedSize + gib * 2 ** 30);
  const disk = await HostileDisk.serve(file, join(place, `${gib}.sock`));
  const boot = async (): Promise<Outcome> => {
    const machine = await host.boot({ machine: (options) => ({ ...options, volumes: [disk.url] }) });
    if (machine.reason !== "ready") throw new Error(`${machine.reason}: ${machine.message}`);
    return machine;
  };
  const since = (from: number, kind: string) =>
    disk.events.slice(from).filter((event) => event.kind === kind);
  const written = (from: number) =>
    since(from, "write").reduce((sum, event) => sum + ("bytes" in event ? event.bytes.length : 0), 0) /
    blockSize;
  try {
    const first = await boot();
    await ask(first, "POST", "increment");
    let from = disk.events.length;
    for (let index = 0; index < checkpoints; index++) await ask(first, "POST", "increment");
    const [blocks, flushes] = [written(from) / checkpoints, since(from, "flush").length / checkpoints];
    await host.pull(first);
    from = disk.events.length;
    let read = 0;
    disk.answer = (_, honest) => {
      read++;
      return honest;
    };
    const second = await boot();
    const stage = second.session.vm.events.find(
      (event) => event.kind === "stage" && event.stage === "volumes" && event.state === "done",
    );
    const seconds = stage?.kind === "stage" && stage.state === "done" ? stage.seconds : 0;
    return { opening: { read, written: written(from), seconds }, blocks, flushes };
  } finally {
    await host.remove();
    await disk.close();
  }
}

/** The counter's image, and the same without its volume. */
async function* growth(place: string): AsyncIterable<Row> {
  const text = readFileSync(new URL("../examples/counter/caisson.yaml", import.meta.url), "utf8");
  const volume = text.slice(text.indexOf("\nvolumes:\n"));
  const seen = "  volumes:\n    data: /data\n";
  const { manifest } = await counterImage(join(place, "with"));
  const { manifest: without } = await counterImage(join(place, "without"), { [volume]: "", [seen]: "" });
  const note = "peer: the same application without a volume, development";
  const row = (name: string, ours: number, peer: number) => ({ name, unit: "bytes", ours, peer, note });
  yield row("kernel", manifest.kernel.size, without.kernel.size);
  yield row("root with hash tree", manifest.rootfs.size, without.rootfs.size);
}

/** Openings of three sizes, and a checkpoint. */
async function* openings(place: string): AsyncIterable<Row> {
  const one = await wholeOpening(place, 1);
  const note = "peer: 1 GiB, as sparse; the second opening, until the machine is ready";
  yield { name: "blocks written for a checkpoint of one SQLite page", unit: "blocks", ours: one.blocks };
  yield { name: "flushes for it", unit: "flushes", ours: one.flushes };
  for (const gib of [10, 100]) {
    const { opening } = await wholeOpening(place, gib);
    for (const [what, unit] of [
      ["read", "blocks"],
      ["written", "blocks"],
      ["seconds", "s"],
    ] as const) {
      yield { name: `opening ${gib} GiB: ${what}`, unit, ours: opening[what], peer: one.opening[what], note };
    }
  }
}

/** Four stacks in one machine. */
async function* stacks(): AsyncIterable<Row> {
  const { kernel, figures } = await measureStacks();
  const [plain, ...others] = stackNames;
  const works = {
    sequentialWrites: "sequential write of 4 KiB",
    sequentialReads: "sequential read of 4 KiB",
    randomWrites: "random write of 4 KiB",
    randomReads: "random read of 4 KiB",
    fsync: "fsync after a random write",
    commits: "commit of SQLite (WAL, full)",
  } as const;
  const asked = { requests: "requests", flushes: "flushes", bytes: "bytes" } as const;
  const note = `peer: ${plain}; Linux ${kernel} of Debian`;
  for (const stack of others) {
    const [ours, peer] = [figures[stack]!, figures[plain]!];
    for (const [work, title] of Object.entries(works) as [StackJob, string][]) {
      for (const [what, unit] of Object.entries(asked) as [keyof DiskCalls, string][]) {
        if (what === "flushes" && work !== "fsync" && work !== "commits") continue;
        const name = `${unit} to the disk for a ${title}: ${stack}`;
        yield { name, unit, ours: ours.calls[work][what], peer: peer.calls[work][what], note };
      }
      if (work === "fsync") continue;
      yield { name: `${title}: ${stack}`, unit: "1/s", ours: ours.rates[work], peer: peer.rates[work], note };
    }
    yield {
      name: `${works.fsync}, median: ${stack}`,
      unit: "ms",
      ours: ours.fsyncMedian,
      peer: peer.fsyncMedian,
      note,
    };
    yield {
      name: `${works.fsync}, 99 %: ${stack}`,
      unit: "ms",
      ours: ours.fsync99,
      peer: peer.fsync99,
      note,
    };
  }
}

/** Symbols that are built in. */
const symbols = (name: string): number =>
  readFileSync(join(kernels, name), "utf8").match(/^CONFIG_\w+=y$/gm)!.length;

export async function* run(): AsyncIterable<Row> {
  const place = mkdtempSync(join(tmpdir(), "caisson-bench-"));
  try {
    yield* anchorRates(place);
    yield* growth(place);
    yield* openings(place);
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
  yield* stacks();
}
