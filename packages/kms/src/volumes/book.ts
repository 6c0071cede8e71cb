// SPDX-License-Identifier: Apache-2.0
/** The volumes of one KMS: the rules (rules.ts) applied to what is kept (store.ts), and what is signed and derived. */
import { randomBytes } from "node:crypto";
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
import * as z from "zod";
import { KmsError } from "../errors.ts";
import {
  anchorVolume,
  type OperatorAction,
  openVolume,
  operate,
  type Ruling,
  restored,
  type VolumeDenial,
  type VolumeKey,
  type VolumeRecord,
} from "./rules.ts";
import type { ValueStore } from "./store.ts";

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

const keyOf = ({ owner, seed, name }: VolumeKey): string => `volume/${owner}/${seed}/${name}`;
/** Set where this KMS was restored from a backup. */
const restoredKey = "restored";

export class VolumeBook {
  readonly #store: ValueStore;
  readonly #secret: Uint8Array;
  readonly #identity: IdentityKey;
  readonly #now: () => number;

  constructor(store: ValueStore, secret: Uint8Array, identity: IdentityKey, now: () => number) {
    this.#store = store;
    this.#secret = secret;
    this.#identity = identity;
    this.#now = now;
  }

  /** Opens a volume for a guest whose evidence was accepted. A ticket that this KMS did not sign counts as none. */
  async open(key: VolumeKey, ticket: Ticket | undefined): Promise<Opened | VolumeDenial> {
    const known = ticket !== undefined && this.#signed(ticket) ? ticket : undefined;
    const fresh = randomBytes(32).toString("hex");
    const { record, denial } = await this.#change(key, (before) =>
      openVolume(before, {
        key,
        ticket: known,
        restored: this.#store.read(restoredKey) !== undefined,
        fresh,
        now: this.#now(),
      }),
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
    const { record, denial } = await this.#change(request, (before) =>
      anchorVolume(before, { volume, epoch, generation }, this.#now()),
    );
    return denial ?? this.#ticket(record!);
  }

  /** All records, also of deleted volumes. */
  list(): VolumeRecord[] {
    return this.#store
      .keys()
      .filter((key) => key !== restoredKey)
      .map((key) => read(this.#store.read(key)!.value));
  }

  /** An operator's word about one volume (its id, or the beginning of it). Throws KmsError `volumes/unknown`. */
  async operate(id: string, action: OperatorAction): Promise<VolumeRecord> {
    const found = this.find(id);
    const { record } = await this.#change(found, (before) => ({
      record: operate(before!, action, this.#now()),
    }));
    return record!;
  }

  find(id: string): VolumeRecord {
    const found = this.list().filter(({ volume }) => volume.startsWith(id));
    if (found.length === 1 && id.length >= 8) return found[0]!;
    throw new KmsError(
      "volumes/unknown",
      `${found.length === 0 || id.length < 8 ? "no volume" : "more than one volume"} begins with '${id}'`,
      {
        fix: "caisson kms volume list shows them; 8 digits at least",
      },
    );
  }

  /** This KMS comes from a backup: every volume is suspect, and so is every one that it does not know. */
  async markRestored(): Promise<number> {
    const marks = this.#store.read(restoredKey);
    await this.#store.write(restoredKey, marks?.version ?? 0, String(this.#now()));
    const records = this.list();
    for (const record of records) {
      await this.#change(record, (before) => ({ record: restored(before!, this.#now()) }));
    }
    return records.length;
  }

  close(): void {
    this.#store.close();
  }

  /** Reads, decides and writes until nobody came between. */
  async #change(key: VolumeKey, rule: (before: VolumeRecord | undefined) => Ruling): Promise<Ruling> {
    for (;;) {
      const stored = this.#store.read(keyOf(key));
      const before = stored === undefined ? undefined : read(stored.value);
      const ruling = rule(before);
      if (ruling.record === undefined) return { ...(before && { record: before }), ...ruling };
      if (await this.#store.write(keyOf(key), stored?.version ?? 0, write(ruling.record))) return ruling;
    }
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
