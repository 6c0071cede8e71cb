// SPDX-License-Identifier: Apache-2.0
/**
 * A model of the protocol of docs/state.md, searched at random: a disk that remembers every version of every place and
 * lets the host choose one at each read, a copy-on-write file system that binds a child by place and generation, guests
 * that crash at any step or go on as ghosts, a superblock that is garbled so that its copy counts, anchors that get
 * lost on the way, a KMS that is restored from any of its earlier states, again and again, with or without the tickets
 * that disks hold. The KMS's rules are the real ones (rules.ts).
 *
 * Found is what the guarantee forbids: a state that is not on the line of the last acknowledged checkpoint, or a pointer
 * for which the host has two contents. Run this file to search for longer: `node volume-model.ts RUNS [SEED]`.
 */
import { firstGeneration, type Ticket, volumeVersion } from "@caisson/protocol/volumes";
import {
  anchorVolume,
  jumpChoices,
  type Opening,
  openVolume,
  operate,
  type Ruling,
  restored,
  restoredJump,
  type VolumeRecord,
} from "../volumes/rules.ts";

/** Rules that can be left out, to see that the search finds what they prevent. */
export interface Mutations {
  /** Openings keep the generation that they find. */
  noStamp?: boolean;
  /** The KMS takes anchors of every opening. */
  noFence?: boolean;
  /** Guests accept a superblock below the anchor. */
  noAnchor?: boolean;
  /** The copy of a garbled superblock is taken as it is. */
  noCopyAnchor?: boolean;
  /** Restores do not know of each other. */
  uncounted?: boolean;
  /** An opening is used before its first commit was anchored. */
  noFirstAnchor?: boolean;
  /** A KMS goes on from an earlier state as if it were the newest. */
  noRestore?: boolean;
}

export interface Search {
  runs: number;
  steps: number;
  seed: number;
  mutations?: Mutations;
}

/** What went wrong, and the steps that led there; undefined when nothing did. */
export interface Found {
  what: string;
  trace: string[];
}

const keys = 2;
const places = 9;
const superPlace = -1;

interface Pointer {
  place: number;
  generation: bigint;
}
/** A leaf holds a value, the root a pointer for each key, the superblock a pointer to the root. */
interface Version {
  generation: bigint;
  content: string;
}
interface Commit {
  id: number;
  parent: Commit | undefined;
  root: Pointer;
  leaves: Pointer[];
  values: number[];
}
interface Guest {
  epoch: bigint;
  volume: string;
  /** Its newest commit, and what it has written since, by key. */
  at: Commit;
  dirty: Map<number, { pointer: Pointer; value: number }>;
  /** Places of its transaction that nothing may reuse before the commit. */
  pinned: Set<number>;
  generation: bigint;
}

/** Numbers below 2^32 that follow from a seed (xorshift32). */
function random(seed: number): (below: number) => number {
  let state = seed | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

const text = (value: unknown): string =>
  JSON.stringify(value, (_, one: unknown) => (typeof one === "bigint" ? String(one) : one));

const key = { owner: "0a".repeat(32), seed: "0b".repeat(20), name: "data" };

/** What the KMS signs of a record; the signature is not what is searched here. */
const ticketOf = ({ volume, secretVersion, chain, epoch, anchor }: VolumeRecord): Ticket => ({
  version: volumeVersion,
  volume,
  ...key,
  secretVersion,
  chain,
  epoch: String(epoch),
  anchor: String(anchor),
  signature: "",
});

class World {
  readonly #pick: (below: number) => number;
  readonly #mutations: Mutations;
  readonly #history = new Map<number, Version[]>();
  /** Which commit a version of the superblock belongs to, and of its copy, which stamps do not write. */
  readonly #supers: { version: Version; commit: Commit }[] = [];
  readonly #copies: { version: Version; commit: Commit }[] = [];
  readonly #guests: Guest[] = [];
  readonly trace: string[] = [];
  #record: VolumeRecord | undefined;
  /** What backups of the KMS hold, and what it has signed for disks. */
  readonly #backups: { record: VolumeRecord; restores: number }[] = [];
  readonly #tickets: VolumeRecord[] = [];
  #acknowledged: Commit | undefined;
  /** How often the KMS was restored; a backup knows of those before it. */
  #restores = 0;
  #ids = 0;

  constructor(seed: number, mutations: Mutations) {
    this.#pick = random(seed);
    this.#mutations = mutations;
  }

  /** One step; what it violates, if it does. */
  step(): string | undefined {
    const guest = this.#guests[this.#pick(Math.max(1, this.#guests.length))];
    const choice = this.#pick(10);
    if (guest === undefined || choice === 0) return this.#open();
    if (choice === 1) {
      this.trace.push(`crash ${guest.epoch}`);
      this.#guests.splice(this.#guests.indexOf(guest), 1);
      return undefined;
    }
    if (choice === 2 && this.#pick(3) === 0) this.#restore();
    else if (choice < 6) this.#write(guest);
    else if (choice < 8) this.#commit(guest);
    else this.#checkpoint(guest);
    return this.#ambiguous();
  }

  #put(place: number, generation: bigint, content: string): Version {
    const version = { generation, content };
    const known = this.#history.get(place) ?? [];
    this.#history.set(place, [...known, version]);
    return version;
  }

  /** A place that neither the last commit nor this transaction needs. */
  #free({ at, pinned }: Guest): number {
    const used = new Set([at.root.place, ...at.leaves.map(({ place }) => place), ...pinned]);
    const free = Array.from({ length: places }, (_, place) => place).filter((place) => !used.has(place));
    return free[this.#pick(Math.min(free.length, 2))] ?? -2;
  }

  #write(guest: Guest): void {
    const place = this.#free(guest);
    if (place < 0) return;
    const [which, value] = [this.#pick(keys), this.#pick(1000)];
    const pointer = { place, generation: guest.generation + 1n };
    this.#put(place, pointer.generation, text(value));
    guest.dirty.set(which, { pointer, value });
    guest.pinned.add(place);
    this.trace.push(`${guest.epoch} writes ${which}=${value} at ${place}`);
  }

  #commit(guest: Guest): void {
    const place = this.#free(guest);
    if (place < 0) return;
    const generation = guest.generation + 1n;
    const leaves = guest.at.leaves.map((leaf, index) => guest.dirty.get(index)?.pointer ?? leaf);
    const values = guest.at.values.map((value, index) => guest.dirty.get(index)?.value ?? value);
    this.#put(place, generation, text(leaves));
    const commit = { id: this.#ids++, parent: guest.at, root: { place, generation }, leaves, values };
    this.#super(generation, commit);
    this.#copies.push(this.#supers.at(-1)!);
    Object.assign(guest, { at: commit, dirty: new Map(), pinned: new Set(), generation });
    this.trace.push(`${guest.epoch} commits ${generation} with the root at ${place}`);
  }

  #super(generation: bigint, commit: Commit): void {
    this.#supers.push({ version: this.#put(superPlace, generation, text(commit.root)), commit });
  }

  /** Commits, and tells the KMS: the host may lose the message, or the answer. */
  #checkpoint(guest: Guest): boolean {
    this.#commit(guest);
    const fate = this.#pick(4);
    if (fate === 0) return false;
    const { epoch, generation } = guest;
    const record = this.#record!;
    const ruling = this.#rule(guest, record);
    if (ruling.denial !== undefined) {
      this.trace.push(`${epoch} is refused at ${generation}`);
      return false;
    }
    if (ruling.record !== undefined) this.#keep({ ...ruling.record, epoch: record.epoch });
    this.trace.push(`${epoch} anchors ${generation}${fate === 1 ? ", the answer is lost" : ""}`);
    if (fate === 1) return false;
    // The guest has it on the disk before it says that the checkpoint is done.
    this.#tickets.push(this.#record!);
    this.#acknowledged = guest.at;
    return true;
  }

  /** The KMS's rule, or what is left of it. */
  #rule({ volume, epoch, generation }: Guest, record: VolumeRecord): Ruling {
    const { noFence, noStamp } = this.#mutations;
    if (noStamp === true && epoch === record.epoch && generation > record.anchor) {
      return { record: { ...record, anchor: generation, state: "live" } };
    }
    const claimed = noFence === true ? { ...record, epoch } : record;
    return anchorVolume(claimed, { volume, epoch, generation }, 0);
  }

  #opening(shown: VolumeRecord | undefined): Opening {
    const jump = this.#jump(this.#restores - 1);
    return { key, restored: false, fresh: "ab".repeat(32), jump, now: 0, ticket: shown && ticketOf(shown) };
  }

  #jump(unknown: number): bigint {
    return restoredJump(
      this.#pick(jumpChoices),
      this.#mutations.uncounted === true ? 0 : Math.max(0, unknown),
    );
  }

  #keep(record: VolumeRecord): void {
    this.#record = record;
    this.#backups.push({ record, restores: this.#restores });
  }

  /** The KMS is put back to what it was once. An operator finds the newest disk before anything is opened again. */
  #restore(): void {
    const backup = this.#backups[this.#pick(Math.max(1, this.#backups.length))];
    if (backup === undefined) return;
    const { record, restores } = backup;
    this.trace.push(`the KMS is restored: epoch ${record.epoch}, anchor ${record.anchor}`);
    if (this.#mutations.noRestore === true) {
      this.#record = record;
      return;
    }
    this.#record = restored(record, this.#jump(this.#restores++ - restores), 0);
    const shown = this.#tickets.at(-1);
    const told = openVolume(this.#record, this.#opening(shown));
    this.#keep(operate(told.record ?? this.#record, "allow", 0));
  }

  /** A guest starts: the KMS gives it an epoch, the host any superblock that it ever had, and any ticket or none. */
  #open(): string | undefined {
    const shown = this.#tickets[this.#pick(this.#tickets.length + 1)];
    const { record, denial } = openVolume(this.#record, this.#opening(shown));
    if (denial !== undefined) return undefined;
    this.#keep(record!);
    const { epoch, volume, anchor, state } = record!;
    const garbled = state !== "creating" && this.#pick(4) === 0;
    const shownSupers = garbled ? this.#copies : this.#supers;
    const base = state === "creating" ? this.#format() : shownSupers[this.#pick(shownSupers.length)];
    if (base === undefined) return undefined;
    const found = base.version.generation;
    const compared = this.#mutations.noAnchor !== true && !(garbled && this.#mutations.noCopyAnchor === true);
    if (found < anchor && compared) return undefined;
    const stamped = this.#mutations.noStamp === true ? found : firstGeneration(epoch);
    if (found > stamped) return undefined;
    const { commit } = base;
    const root = { place: commit.root.place, generation: stamped };
    const at = { ...commit, id: this.#ids++, parent: commit, root };
    this.trace.push(`${epoch} opens ${found} with the root at ${root.place}`);
    const guest: Guest = { epoch, volume, at, dirty: new Map(), pinned: new Set(), generation: stamped };
    const strange = this.#strange(at, { place: root.place, generation: found });
    if (strange !== undefined) return strange;
    if (stamped !== found) {
      this.#put(root.place, stamped, text(commit.leaves));
      this.#super(stamped, at);
    }
    if (this.#mutations.noFirstAnchor === true) this.#commit(guest);
    else if (!this.#checkpoint(guest)) return undefined;
    this.#guests.push(guest);
    return undefined;
  }

  #format() {
    const generation = 6n;
    const leaves = Array.from({ length: keys }, (_, place) => ({ place, generation }));
    for (const { place } of leaves) this.#put(place, generation, text(0));
    const root = { place: keys, generation };
    this.#put(root.place, generation, text(leaves));
    const commit = { id: this.#ids++, parent: undefined, root, leaves, values: leaves.map(() => 0) };
    this.#super(generation, commit);
    return this.#supers.at(-1)!;
  }

  /** Why a state must not be presented. */
  #strange(commit: Commit, root: Pointer): string | undefined {
    let line: Commit | undefined = commit;
    while (line !== undefined && line !== this.#acknowledged) line = line.parent;
    if (line === undefined && this.#acknowledged !== undefined) {
      return `opened what is not after the acknowledged commit ${this.#acknowledged.root.generation}`;
    }
    return this.#other(root, text(commit.leaves)) ?? this.#leavesOf(commit);
  }

  #leavesOf({ leaves, values }: Commit): string | undefined {
    return leaves
      .map((leaf, index) => this.#other(leaf, text(values[index])))
      .find((found) => found !== undefined);
  }

  /** Whether the host has something else for a pointer than what was written for it. */
  #other({ place, generation }: Pointer, content: string): string | undefined {
    const other = this.#history
      .get(place)
      ?.find((version) => version.generation === generation && version.content !== content);
    return (
      other && `two contents at place ${place}, generation ${generation}: ${content} and ${other.content}`
    );
  }

  /** A running guest reads again what it has committed. */
  #ambiguous(): string | undefined {
    return this.#guests.map(({ at }) => this.#leavesOf(at)).find((found) => found !== undefined);
  }
}

/** Searches; the first violation. */
export function searchModel({ runs, steps, seed, mutations = {} }: Search): Found | undefined {
  for (let run = 0; run < runs; run++) {
    const world = new World(seed + 7919 * run, mutations);
    for (let step = 0; step < steps; step++) {
      const what = world.step();
      if (what !== undefined) return { what, trace: world.trace };
    }
  }
  return undefined;
}

if (import.meta.main) {
  const [runs = 1_000_000, seed = 1] = process.argv.slice(2).map(Number);
  const found = searchModel({ runs, steps: 60, seed });
  process.stdout.write(
    found === undefined ? `${runs} runs, nothing found\n` : `${JSON.stringify(found, null, 2)}\n`,
  );
  if (found !== undefined) process.exitCode = 1;
}
