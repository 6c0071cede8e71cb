// SPDX-License-Identifier: Apache-2.0
/**
 * What a KMS knows of a volume, and the rules by which that changes. Pure: the model checker of docs/state.md runs these.
 *
 * Invariants: epoch and anchor never go down; an epoch is given out once; only the newest epoch anchors, and only its own
 * generations; a volume that was ever anchored is never "creating" again; what was restored, or was only learned from a
 * ticket, is opened only after an operator said so.
 */
import { createHash } from "node:crypto";
import { epochLimit, epochOf, type Ticket } from "@caisson/protocol/volumes";
import { frame, text, u64 } from "@caisson/vocabulary/frame";

/** Which volume: its owner (an application's id, hex), the instance (seed, hex), and its name there. */
export interface VolumeKey {
  owner: string;
  seed: string;
  name: string;
}

export interface VolumeRecord extends VolumeKey {
  /** 32 random bytes, hex: what its secret is derived from. */
  volume: string;
  state: "creating" | "live" | "deleted";
  /** An operator has to look at it before it is opened again. */
  suspect: boolean;
  secretVersion: number;
  epoch: bigint;
  anchor: bigint;
  /** Hash over this and every earlier state of the record, hex. */
  chain: string;
  /** Of the last change, milliseconds since 1970. */
  time: number;
}

/** Why a volume is not opened, or an anchor not taken. Closed. */
export type VolumeDenialCode =
  | "volume/event"
  | "volume/suspect"
  | "volume/other-disk"
  | "nonce/used"
  | "volume/worn"
  | "volume/unknown"
  | "volume/fenced"
  | "volume/generation";

export interface VolumeDenial {
  code: VolumeDenialCode;
  message: string;
}

/** What a rule makes of a record. `record` is to be kept whether there is a denial or not; undefined: nothing changes. */
export interface Ruling {
  record?: VolumeRecord;
  denial?: VolumeDenial;
}

/**
 * How far epochs jump where a KMS cannot know which were given out since its backup: farther for each restore that the
 * backup does not know of, so that a KMS that is restored again is beyond whatever it gave out in between. By chance besides,
 * for restores that nobody counted. `random` is a number below `jumpChoices`, `unknown` how many restores those are.
 */
export const restoredJump = (random: number, unknown = 0): bigint =>
  (1n << 16n) + BigInt(random) + (BigInt(unknown) << 17n);
export const jumpChoices = 2 ** 15;

const deny = (code: VolumeDenialCode, message: string, record?: VolumeRecord): Ruling => ({
  denial: { code, message },
  ...(record !== undefined && { record }),
});

const max = (a: bigint, b: bigint): bigint => (a > b ? a : b);

/** The record after a change, its chain one longer. */
function changed(before: VolumeRecord, change: Partial<VolumeRecord>, time: number): VolumeRecord {
  const after = { ...before, ...change, time };
  const { volume, state, suspect, secretVersion, epoch, anchor } = after;
  const link = frame(
    "caisson/volume/v1/record",
    Uint8Array.fromHex(before.chain),
    Uint8Array.fromHex(volume),
    text(state),
    u64(suspect ? 1 : 0),
    u64(secretVersion),
    u64(epoch),
    u64(anchor),
    u64(time),
  );
  return { ...after, chain: createHash("sha256").update(link).digest("hex") };
}

export interface Opening {
  key: VolumeKey;
  /** What this KMS signed, as the disk has it: the signature is checked. */
  ticket?: Ticket | undefined;
  /** Whether this KMS was restored from a backup, and may have forgotten volumes. */
  restored: boolean;
  /** 32 random bytes, hex, for a volume that is new. */
  fresh: string;
  /** `restoredJump`. */
  jump: bigint;
  now: number;
}

const sameKey = (a: VolumeKey, b: VolumeKey) => a.owner === b.owner && a.seed === b.seed && a.name === b.name;

/** The record of a volume that there is not. `unknown`: nor was it deleted. */
function begun(unknown: boolean, { key, ticket, restored, fresh, jump, now }: Opening): VolumeRecord {
  const blank: VolumeRecord = {
    ...key,
    volume: fresh,
    state: "creating",
    suspect: restored,
    secretVersion: 1,
    epoch: 0n,
    anchor: 0n,
    chain: "00".repeat(32),
    time: now,
  };
  if (!unknown || ticket === undefined) return changed(blank, {}, now);
  // A ticket of ours for a volume that we do not know: the record was lost, and the disk holds what is left of it.
  const anchor = BigInt(ticket.anchor);
  const lost: Partial<VolumeRecord> = {
    volume: ticket.volume,
    state: anchor > 0n ? "live" : "creating",
    suspect: true,
    secretVersion: ticket.secretVersion,
    epoch: BigInt(ticket.epoch) + jump,
    anchor,
  };
  return changed(blank, lost, now);
}

/**
 * The record, where the disk's ticket is of something newer: we were put back, and go on from what the disk tells. Openings
 * after it may have come to no ticket, so that whoever has the one of the ticket may have been fenced, and stays so.
 */
function caughtUp(record: VolumeRecord, { ticket, jump, now }: Opening): VolumeRecord {
  if (ticket?.volume !== record.volume) return record;
  const told = { epoch: BigInt(ticket.epoch), anchor: BigInt(ticket.anchor) };
  if (told.epoch <= record.epoch && told.anchor <= record.anchor) return record;
  const anchor = max(record.anchor, told.anchor);
  const epoch = max(record.epoch, told.epoch + jump);
  return changed(record, { epoch, anchor, state: anchor > 0n ? "live" : record.state }, now);
}

/** A guest opens a volume: the new record holds its epoch. Every older opening is fenced from then on. */
export function openVolume(known: VolumeRecord | undefined, opening: Opening): Ruling {
  const { key, ticket, now } = opening;
  if (ticket !== undefined && !sameKey(ticket, key)) {
    return deny(
      "volume/other-disk",
      `this disk is the volume '${ticket.name}' of application ${ticket.owner}, instance seed ${ticket.seed}; asked for was '${key.name}'`,
    );
  }
  const live = known?.state === "deleted" ? undefined : known;
  if (live?.state === "live" && ticket !== undefined && ticket.volume !== live.volume) {
    return deny(
      "volume/other-disk",
      `this disk is an earlier volume of the name '${key.name}', which was deleted`,
    );
  }
  const record = live === undefined ? begun(known === undefined, opening) : caughtUp(live, opening);
  if (record.suspect) {
    return deny(
      "volume/suspect",
      `volume '${key.name}' waits for an operator: this KMS was restored, or marked it (caisson kms volume allow)`,
      record,
    );
  }
  if (record.epoch + 1n >= epochLimit) {
    return deny("volume/worn", `volume '${key.name}' was opened ${record.epoch} times; copy it to a new one`);
  }
  return { record: changed(record, { epoch: record.epoch + 1n }, now) };
}

/** An opening says which generation it has written. The same one again changes nothing. */
export function anchorVolume(
  record: VolumeRecord | undefined,
  { volume, epoch, generation }: { volume: string; epoch: bigint; generation: bigint },
  now: number,
): Ruling {
  if (record === undefined || record.state === "deleted" || record.volume !== volume) {
    return deny("volume/unknown", "this KMS has no such volume");
  }
  if (epoch !== record.epoch) {
    return deny(
      "volume/fenced",
      `the volume was opened again since: this is opening ${epoch}, the newest is ${record.epoch}`,
    );
  }
  if (epochOf(generation) !== epoch || generation < record.anchor) {
    return deny(
      "volume/generation",
      `generation ${generation} is not one of opening ${epoch} after ${record.anchor}`,
    );
  }
  if (generation === record.anchor) return {};
  return { record: changed(record, { anchor: generation, state: "live" }, now) };
}

/** What an operator does to a volume. */
export type OperatorAction = "allow" | "suspect" | "delete";

export function operate(record: VolumeRecord, action: OperatorAction, now: number): VolumeRecord {
  if (action === "delete") return changed(record, { state: "deleted", suspect: false }, now);
  return changed(record, { suspect: action === "suspect" }, now);
}

/** After a restore: an operator looks first, and no epoch that was given out since the backup is given out again. */
export function restored(record: VolumeRecord, jump: bigint, now: number): VolumeRecord {
  return changed(record, { suspect: record.state !== "deleted", epoch: record.epoch + jump }, now);
}
