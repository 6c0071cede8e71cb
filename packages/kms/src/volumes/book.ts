// SPDX-License-Identifier: Apache-2.0
/** The volumes of one KMS: the rules (rules.ts) applied to rows of its store, and what is signed and derived. */
import { randomBytes, randomInt } from "node:crypto";
import { deriveAnchorKey, deriveVolumeSecret } from "@caisson/protocol/derivation";
import { type IdentityKey, verifySignature } from "@caisson/protocol/ed25519";
import {
  type AnchorRequest,
  type Grant,
  isAuthentic,
  type Ticket,
  ticketTranscript,
  volumeVersion,
} from "@caisson/protocol/volumes";
import { frame, text } from "@caisson/vocabulary/frame";
import { hash } from "@caisson/vocabulary/hash";
import * as z from "zod";
import { KmsError } from "../errors.ts";
import { openRootSecret } from "../root-secret.ts";
import type { UsedNonce } from "../store/backend.ts";
import { change, readInPieces, update } from "../store/change.ts";
import { changedEntry, type LogEntry } from "../store/entries.ts";
import { openLogStore } from "../store/open.ts";
import { jsonOf, type Row, type RowName, textOf } from "../store/rows.ts";
import { type RowChange, type Store, storeKeys } from "../store/store.ts";
import {
  anchorVolume,
  jumpChoices,
  type OperatorAction,
  openVolume,
  operate,
  type Ruling,
  restored,
  restoredJump,
  type VolumeDenial,
  type VolumeKey,
  type VolumeRecord,
} from "./rules.ts";

/** A volume that may be opened, and 32 bytes each of what its guest needs for that. */
export interface Opened {
  grant: Grant;
  secret: Uint8Array;
  anchorKey: Uint8Array;
}

const big = z.string().transform(BigInt);
const schema = z.strictObject({
  owner: z.string(),
  seed: z.string(),
  name: z.string(),
  volume: z.string(),
  state: z.enum(["creating", "live", "deleted"]),
  suspect: z.boolean(),
  secretVersion: z.int(),
  epoch: big,
  anchor: big,
  chain: z.string(),
  time: z.int(),
});

const write = (record: VolumeRecord): string =>
  JSON.stringify(record, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value));

function read(text: string): VolumeRecord {
  const result = schema.safeParse(JSON.parse(text));
  if (result.success) return result.data;
  throw new KmsError(
    "volumes/unreadable",
    `a volume's record is malformed: ${result.error.issues[0]?.message}`,
  );
}

/** Where the rows of a KMS are that does not keep them in its data directory. */
export interface BookPlace {
  /** Addresses of PostgreSQL servers. */
  databases?: readonly string[];
  /** The root secret, where it is not in the data directory yet. */
  secret?: Uint8Array;
}

/** The volumes of a data directory's KMS, beside it while it runs or without it. Throws KmsError. */
export async function openVolumeBook(
  data: string,
  { databases = [], secret = openRootSecret(data, { development: true }) }: BookPlace = {},
): Promise<VolumeBook> {
  const store = await openLogStore(data, databases, secret);
  return new VolumeBook(store, secret, storeKeys(secret).identity, Date.now);
}

const table = "volumes";
const keyOf = ({ owner, seed, name }: VolumeKey): string => `volume/${owner}/${seed}/${name}`;
/** Keys of all volumes, and what is known of restores of this KMS from backups. */
const index: RowName = { table, key: "index" };
const restoredMark: RowName = { table, key: "restored" };
const indexSchema = z.array(z.string());

const bytes = (value: string): Uint8Array => new TextEncoder().encode(value);
const keysIn = (row: Row | undefined): string[] => (row === undefined ? [] : indexSchema.parse(jsonOf(row)));

/** With what lies in their buckets they are one answer of the database's. */
const rowsAtOnce = 1000;

const jump = (unknown: number): bigint => restoredJump(randomInt(jumpChoices), unknown);
/** When this KMS was restored last, and how often; an earlier form was the time alone. */
const markSchema = z.object({ restores: z.int() }).catch({ restores: 1 });
const restoresIn = (mark: Row | undefined): number =>
  mark === undefined ? 0 : markSchema.parse(jsonOf(mark)).restores;
/** Counts operators' signed words, so that each is taken once. */
export const operationsRow: RowName = { table, key: "operations" };

/** A request that opened this volume before. */
const replayed: VolumeDenial = { code: "nonce/used", message: "the nonce was used before" };

/** What stands for the request with this nonce where it opens this volume; the release uses up the nonce itself later. */
const opensOnce = (nonce: Uint8Array, key: VolumeKey): Uint8Array =>
  hash("sha256", frame("caisson/volume/v1/opens-once", nonce, text(keyOf(key))));

export class VolumeBook {
  readonly #store: Store;
  readonly #secret: Uint8Array;
  readonly #identity: IdentityKey;
  readonly #now: () => number;

  constructor(store: Store, secret: Uint8Array, identity: IdentityKey, now: () => number) {
    this.#store = store;
    this.#secret = secret;
    this.#identity = identity;
    this.#now = now;
  }

  /**
   * Opens a volume for a guest whose evidence was accepted. A ticket that this KMS did not sign counts as none. `by` is the
   * nonce of its request: one request opens a volume once, at whichever replica and how often a host sends it.
   */
  async open(key: VolumeKey, ticket: Ticket | undefined, by?: UsedNonce): Promise<Opened | VolumeDenial> {
    const known = ticket !== undefined && this.#signed(ticket) ? ticket : undefined;
    const fresh = randomBytes(32).toString("hex");
    const { record, denial } = await this.#change(
      key,
      (before, restores) =>
        openVolume(before, {
          key,
          ticket: known,
          restored: restores > 0,
          fresh,
          jump: jump(Math.max(0, restores - 1)),
          now: this.#now(),
        }),
      "opened",
      by && { nonce: { issued: by.issued, nonce: opensOnce(by.nonce, key) } },
    );
    if (denial !== undefined) return denial;
    const { volume, state, secretVersion, epoch, anchor } = record!;
    const id = Uint8Array.fromHex(volume);
    return {
      grant: {
        owner: key.owner,
        name: key.name,
        volume,
        state: state === "live" ? "live" : "creating",
        secretVersion,
        epoch: String(epoch),
        anchor: String(anchor),
      },
      secret: deriveVolumeSecret(this.#secret, id, secretVersion),
      anchorKey: deriveAnchorKey(this.#secret, id, epoch),
    };
  }

  /** Whether a request to anchor was made by the opening that it names. */
  isAuthentic(request: AnchorRequest): boolean {
    const key = deriveAnchorKey(this.#secret, Uint8Array.fromHex(request.volume), BigInt(request.epoch));
    return isAuthentic(key, request);
  }

  /** Takes an anchor of an authentic request; the ticket that says so. */
  async anchor(request: AnchorRequest): Promise<Ticket | VolumeDenial> {
    const { volume } = request;
    const [epoch, generation] = [BigInt(request.epoch), BigInt(request.generation)];
    const rule = (before: VolumeRecord | undefined) =>
      anchorVolume(before, { volume, epoch, generation }, this.#now());
    const { record, denial } = await this.#change(request, rule, "anchored");
    return denial ?? this.#ticket(record!);
  }

  /** All records, also of deleted volumes. */
  async list(): Promise<VolumeRecord[]> {
    const [listed] = await this.#store.read([index]);
    const names = keysIn(listed).map((key) => ({ table, key }));
    const records: VolumeRecord[] = [];
    for await (const [, row] of readInPieces(this.#store, names, rowsAtOnce)) {
      if (row !== undefined) records.push(read(textOf(row)));
    }
    return records;
  }

  /**
   * An operator's word about one volume (its id, or the beginning of it). `asked`: only while these rows are of these
   * versions, which are written with it. Throws KmsError "volumes/unknown", "operators/conflict".
   */
  async operate(id: string, action: OperatorAction, asked: readonly RowChange[] = []): Promise<VolumeRecord> {
    const found = await this.find(id);
    const rule = (before: VolumeRecord | undefined) => ({ record: operate(before!, action, this.#now()) });
    const { record } = await this.#change(found, rule, action, { asked });
    return record!;
  }

  /** How many of operators' signed words were taken: what the next one replaces. */
  async operations(): Promise<number> {
    const [row] = await this.#store.read([operationsRow]);
    return row?.version ?? 0;
  }

  /** The volume whose id begins so. Throws KmsError `volumes/unknown`. */
  async find(id: string): Promise<VolumeRecord> {
    const found = (await this.list()).filter(({ volume }) => volume.startsWith(id));
    if (found.length === 1 && id.length >= 8) return found[0]!;
    const what = found.length === 0 || id.length < 8 ? "no volume" : "more than one volume";
    throw new KmsError("volumes/unknown", `${what} begins with '${id}'`, {
      fix: "caisson kms volume list shows them; 8 digits at least",
    });
  }

  /**
   * This KMS comes from a backup: every volume is suspect, and so is every one that it does not know. `earlier`: how many
   * restores there were before, as far as its operators know; the backup may know of more. How many volumes that are.
   */
  async markRestored(earlier = 0): Promise<number> {
    let unknown = 0;
    await change(this.#store, [restoredMark], ([row]) => {
      const known = restoresIn(row);
      unknown = Math.max(0, earlier - known);
      const restores = Math.max(earlier, known) + 1;
      return {
        entry: this.#entry("", "volumes: restored"),
        rows: [update(restoredMark, row, bytes(JSON.stringify({ time: this.#now(), restores })))],
      };
    });
    const records = await this.list();
    for (const record of records) {
      await this.#change(
        record,
        (before) => ({ record: restored(before!, jump(unknown), this.#now()) }),
        "restored",
      );
    }
    return records.length;
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  #entry(owner: string, reason: string): LogEntry {
    return changedEntry(this.#now(), reason, { app: Uint8Array.fromHex(owner) });
  }

  /** Reads, decides and writes until nobody came between; what was decided, or a denial when `nonce` was used before. */
  async #change(
    key: VolumeKey,
    rule: (before: VolumeRecord | undefined, restores: number) => Ruling,
    what: string,
    { nonce, asked = [] }: { nonce?: UsedNonce; asked?: readonly RowChange[] } = {},
  ): Promise<Ruling> {
    const name = { table, key: keyOf(key) };
    // A new volume is listed, too; nothing else looks at more than its own row.
    const names = what === "opened" ? [name, index, restoredMark] : [name];
    let ruling: Ruling = {};
    const { committed } = await change(this.#store, [...asked, ...names], (all) => {
      const [row, listed, mark] = all.slice(asked.length);
      if (asked.some(({ version }, i) => version !== (all[i]?.version ?? 0))) {
        throw new KmsError("operators/conflict", "what the request replaces is not what is in force");
      }
      const before = row && read(textOf(row));
      ruling = rule(before, restoresIn(mark));
      const { record } = ruling;
      if (record === undefined) {
        if (before !== undefined) ruling = { record: before, ...ruling };
        return undefined;
      }
      const rows = [...asked, update(name, row, bytes(write(record)))];
      if (row === undefined) {
        rows.push(update(index, listed, bytes(JSON.stringify([...keysIn(listed), name.key].sort()))));
      }
      const { volume, epoch, anchor } = record;
      const reason = `volume ${volume.slice(0, 16)} ${what}: epoch ${epoch}, anchor ${anchor}`;
      return { entry: this.#entry(record.owner, reason), rows, ...(nonce && { nonce }) };
    });
    return committed === "nonce/used" ? { denial: replayed } : ruling;
  }

  #signed(ticket: Ticket): boolean {
    const { signature, ...rest } = ticket;
    return verifySignature(this.#identity.publicKey, ticketTranscript(rest), Uint8Array.fromHex(signature));
  }

  #ticket({ volume, owner, seed, name, secretVersion, epoch, anchor, chain }: VolumeRecord): Ticket {
    const ticket = {
      version: volumeVersion,
      volume,
      owner,
      seed,
      name,
      secretVersion,
      chain,
      epoch: String(epoch),
      anchor: String(anchor),
    } as const;
    return { ...ticket, signature: this.#identity.sign(ticketTranscript(ticket)).toHex() };
  }
}
