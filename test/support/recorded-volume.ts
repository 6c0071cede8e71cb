// SPDX-License-Identifier: Apache-2.0
/**
 * A volume of `examples/counter` on a disk that remembers everything (hostile-disk.ts), and machines started from any moment
 * of it: disk and KMS as a power cut would have left both there.
 */
import { equal, ok } from "node:assert/strict";
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Built } from "@caisson/image";
import { openVolumeBook } from "@caisson/kms";
import { deriveAnchorKey } from "@caisson/protocol/derivation";
import { keyReleasePaths } from "@caisson/protocol/key-release";
import { anchorPath, anchorRequest, firstGeneration, reservedSize } from "@caisson/protocol/volumes";
import { prepareVolume } from "../../packages/guest/src/volumes/prepare.ts";
import { readRedo, writeRedo } from "../../packages/guest/src/volumes/reserved.ts";
import { manInTheMiddle } from "./between.ts";
import { decryptDisk } from "./btrfs-check.ts";
import { HostileDisk } from "./hostile-disk.ts";
import { blockSize, volumeKeys } from "./volume-disk.ts";
import { ask, type Outcome, VolumeHost } from "./volume-host.ts";

/** Files of which every third is too large to lie within a node. */
const files = Array.from({ length: 30 }, (_, index) => ({
  name: `file${index}`,
  times: index % 3 === 0 ? 3000 : 60,
}));

/** Where the superblock lies on the disk, and its copy (btrfs: 64 KiB and 64 MiB of the volume). Bytes. */
export const superblockPlaces = [reservedSize + 65_536, reservedSize + 2 ** 26] as const;

export class RecordedVolume {
  readonly host: VolumeHost;
  readonly disk: HostileDisk;
  /** What each file held last, by its name. */
  readonly content = new Map<string, string>();
  /** Events after which the guest's flushes were answered, in both openings. */
  readonly flushes: number[] = [];
  readonly #blank: string;
  #openings = 0n;

  private constructor(host: VolumeHost, disk: HostileDisk, blank: string) {
    this.host = host;
    this.disk = disk;
    this.#blank = blank;
  }

  /**
   * A new volume of this size in bytes, which the image's spec has, and two openings of it, each ended by a power cut: files
   * are written again and again, and the counter makes promises.
   */
  static async record(built: Built, size: number): Promise<RecordedVolume> {
    const host = new VolumeHost(built);
    const blank = host.kept("blank");
    mkdirSync(dirname(host.disk), { recursive: true });
    writeFileSync(blank, "");
    truncateSync(blank, reservedSize + size);
    cpSync(blank, host.disk);
    const recorded = new RecordedVolume(host, await HostileDisk.serve(blank, host.kept("nbd.sock")), blank);
    for (const opening of [1, 2]) await recorded.#live(opening);
    for (const [index, { kind }] of recorded.disk.events.entries())
      if (kind === "flush") recorded.flushes.push(index);
    return recorded;
  }

  async #live(opening: number): Promise<void> {
    const boot = await this.boot();
    equal(boot.reason, "ready", boot.message);
    for (const round of [1, 2, 3]) {
      for (const { name, times } of files) {
        const text = `round ${round} of opening ${opening}, `.repeat(times);
        await ask(boot, "POST", `write?name=${name}`, text);
        this.content.set(name, text);
      }
      const asked = (this.#last("asked", this.disk.events.length) ?? 0n) + 1n;
      this.disk.mark("asked", asked);
      await ask(boot, "POST", "increment");
      this.disk.mark("promised", asked);
    }
    await this.host.pull(boot);
  }

  /** Starts the machine on the recorded disk. What the KMS is asked stands in the record before it is. */
  async boot(): Promise<Outcome> {
    return this.host.boot({
      machine: (options) => ({ ...options, volumes: [this.disk.url] }),
      kms: (url) =>
        manInTheMiddle(url, {
          request: (path, body) => {
            if (path === anchorPath) this.disk.mark("anchor", BigInt(String(body["generation"])));
            return body;
          },
          answer: (path, body) => {
            // Nothing of this opening is on the disk yet, and nothing is under way in the KMS.
            if (path === keyReleasePaths.release) {
              this.host.keep("kms", `kms-${++this.#openings}`);
              this.disk.mark("opened", this.#openings);
            }
            return body;
          },
        }),
    });
  }

  /**
   * The power fails after so many events, with about every second sector written that was not flushed, by `seed`; of the
   * superblock's two places the second is written whole or not at all, as by a drive that is in the midst of one of them. A
   * machine that is started then opens the volume, which holds every promise. What was recorded cannot go on after that.
   */
  async fail(count: number, seed: number): Promise<void> {
    // What failed before may have left its machine running, which would write to the disk that is made now.
    await this.host.stop();
    const where = `after event ${count} of ${this.disk.events.length}, seed ${seed}`;
    this.#cut(count, seed);
    this.host.putBack("kms", `kms-${this.#last("opened", count) ?? 1n}`);
    const opened = this.disk.events
      .slice(0, count)
      .findLastIndex((event) => "name" in event && event.name === "opened");
    const generation = this.#last("anchor", count, opened);
    if (generation !== undefined) await anchor(this.host.state, generation);

    const boot = await this.host.boot();
    equal(boot.reason, "ready", `${where}: ${boot.message}`);
    const { count: found } = (await ask(boot, "GET", "").catch((error: unknown) => {
      const said = readFileSync(join(this.host.state, "console.log"), "utf8").split("\n").slice(-20);
      throw new Error([`${where}: the counter does not answer`, ...said].join("\n"), { cause: error });
    })) as { count: number };
    const [least, most] = ["promised", "asked"].map((name) => Number(this.#last(name, count) ?? 0n)) as [
      number,
      number,
    ];
    ok(
      found >= least && found <= most,
      `${where}: the counter stands at ${found}, not from ${least} to ${most}`,
    );
    await this.host.pull(boot);
  }

  #cut(count: number, seed: number): void {
    const kept = (sector: number, at: number) =>
      chance(`${seed} ${at === superblockPlaces[1] ? at : sector}`);
    this.disk.crash(this.host.disk, this.#blank, count, kept);
  }

  /**
   * Does to such a disk what PID 1 does before the kernel mounts it, without a machine: its file system, decrypted and
   * stamped, at `path`.
   */
  async prepare(count: number, seed: number, path: string): Promise<void> {
    this.#cut(count, seed);
    const keys = await volumeKeys(this.host.state);
    decryptDisk(this.host.disk, keys, path);
    const raw = await open(this.host.disk, "r+");
    const plain = await open(path, "r+");
    try {
      const read = async (at: number) => (await plain.read(Buffer.alloc(blockSize), 0, blockSize, at)).buffer;
      const put = async (...all: readonly { at: number; bytes: Uint8Array }[]) => {
        for (const { at, bytes } of all) await plain.write(bytes, 0, blockSize, at);
      };
      const least = this.#last("anchor", count);
      await prepareVolume(
        {
          read,
          put,
          readRedo: () => readRedo(raw, keys.redo),
          writeRedo: (stamp) => writeRedo(raw, keys.redo, stamp),
        },
        keys,
        {
          made: least === undefined,
          to: firstGeneration(this.#openings + 1n),
          least: least ?? 0n,
          deviceSize: statSync(path).size,
        },
      );
    } finally {
      await plain.close();
      await raw.close();
    }
  }

  async remove(): Promise<void> {
    await this.host.remove();
    await this.disk.close();
  }

  /** The value of the last mark of this name before an event, and after another. */
  #last(name: string, before: number, after = 0): bigint | undefined {
    const found = this.disk.events
      .slice(Math.max(0, after), before)
      .findLast((event) => "name" in event && event.name === name);
    return found?.kind === "mark" ? found.value : undefined;
  }
}

/** True for about half of all texts. */
const chance = (text: string): boolean => (createHash("sha256").update(text).digest()[0]! & 1) === 0;

/** Anchors a generation of the newest opening of the only volume, as its guest did. */
async function anchor(state: string, generation: bigint): Promise<void> {
  const book = await openVolumeBook(join(state, "kms"));
  try {
    const [record] = await book.list();
    const { volume, epoch } = record!;
    const root = new Uint8Array(readFileSync(join(state, "kms", "root-secret")));
    const key = deriveAnchorKey(root, Uint8Array.fromHex(volume), epoch);
    const answer = await book.anchor(anchorRequest(key, { ...record!, epoch: String(epoch) }, generation));
    if ("code" in answer) throw new Error(`${answer.code}: ${answer.message}`);
  } finally {
    await book.close();
  }
}
