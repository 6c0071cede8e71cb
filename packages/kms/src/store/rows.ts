// SPDX-License-Identifier: Apache-2.0
/**
 * Rows that an untrusted database keeps: sealed each, and all of them under one hash.
 *
 * A row is encrypted (AES-256-GCM) under a key of its own with table, key and version as additional data. It belongs to
 * one of 65,536 buckets by the hash of its name; the buckets are the leaves of a tree of 16 children a node, four levels
 * high. The root is in the signed head. So a row that was altered, removed, exchanged, added or put back to what it was
 * does not lead to the root, and neither does a row's absence.
 */
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { frame, text, u32, u64 } from "@caisson/vocabulary/frame";
import { hash as digest, hmac } from "@caisson/vocabulary/hash";
import { KmsError } from "../errors.ts";
import type { StoredNode, StoredRow } from "./backend.ts";

/** What a row is called. */
export interface RowName {
  table: string;
  key: string;
}

/** A row as it was last written. */
export interface Row {
  /** From 1; each write adds one. */
  version: number;
  value: Uint8Array;
}

/** What a row says whose value is text. */
export const textOf = ({ value }: Row): string => new TextDecoder().decode(value);
/** The same where it is JSON; undefined where there is no row. Throws SyntaxError. */
export const jsonOf = <T>(row: Row | undefined): T | undefined =>
  row === undefined ? undefined : (JSON.parse(textOf(row)) as T);

const levels = 4;
const fan = 16;
const hashSize = 32;
const absent = new Uint8Array(hashSize);
const sizes = { nonce: 12, tag: 16 };

const sha256 = (bytes: Uint8Array): Uint8Array => digest("sha256", bytes);

/** Which bucket a row belongs to. */
export function bucketOf({ table, key }: RowName): number {
  const hash = sha256(frame("caisson/kms-rows/v1/name", text(table), text(key)));
  return (hash[0]! << 8) | hash[1]!;
}

/** The nodes above a bucket, the root first. `place` is level × 65,536 + number within the level. */
export function placesAbove(bucket: number): number[] {
  return Array.from({ length: levels }, (_, level) => level * 65_536 + (bucket >> (4 * (levels - level))));
}

/** The hash of a bucket: nothing where no row is in it. */
function bucketHash(bucket: number, rows: readonly StoredRow[]): Uint8Array {
  if (rows.length === 0) return absent;
  const inOrder = [...rows].sort((a, b) => order(a.table, b.table) || order(a.key, b.key));
  const fields = inOrder.flatMap(({ table, key, version, sealed }) => [
    text(table),
    text(key),
    u64(version),
    sealed,
  ]);
  return sha256(frame("caisson/kms-rows/v1/bucket", u32(bucket), ...fields));
}

const order = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

function nodeHash(children: Uint8Array): Uint8Array {
  return children.every((byte) => byte === 0) ? absent : sha256(frame("caisson/kms-rows/v1/node", children));
}

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

/** Some buckets of the tree, checked against its root, and what becomes of root and nodes when they change. */
export class Rows {
  readonly #nodes = new Map<number, Uint8Array>();
  readonly #buckets = new Map<number, StoredRow[]>();
  readonly #changed = new Set<StoredRow>();
  readonly #root: Uint8Array;

  /**
   * `root` is that of the signed head, empty while there are no rows; `buckets` is what was asked for, and `rows` and
   * `nodes` what came. Throws KmsError "log/rows" where they do not belong to the root.
   */
  constructor(
    where: string,
    root: Uint8Array,
    buckets: readonly number[],
    rows: readonly StoredRow[],
    nodes: readonly StoredNode[],
  ) {
    this.#root = root;
    for (const bucket of buckets) this.#buckets.set(bucket, []);
    for (const row of rows) {
      const bucket = bucketOf(row);
      if (row.bucket !== bucket || !this.#buckets.has(bucket)) this.#refuse(where, row);
      this.#buckets.get(bucket)!.push(row);
    }
    for (const { place, children } of nodes) {
      if (children.length === fan * hashSize) this.#nodes.set(place, Uint8Array.from(children));
    }
    for (const [bucket, found] of this.#buckets) {
      let expected = root.length === 0 ? absent : root;
      placesAbove(bucket).forEach((place, level) => {
        const children = this.#node(place);
        if (!same(nodeHash(children), expected)) this.#refuse(where, found[0]);
        expected = child(children, bucket, level);
      });
      if (!same(bucketHash(bucket, found), expected)) this.#refuse(where, found[0]);
    }
  }

  find({ table, key }: RowName): StoredRow | undefined {
    const rows = this.#buckets.get(bucketOf({ table, key })) ?? [];
    return rows.find((row) => row.table === table && row.key === key);
  }

  /** Puts a row in the place of the one of its name, which is in one of the buckets. */
  set(row: StoredRow): void {
    const rows = this.#buckets.get(row.bucket)!;
    const at = rows.findIndex(({ table, key }) => row.table === table && row.key === key);
    if (at < 0) rows.push(row);
    else this.#changed.delete(rows.splice(at, 1, row)[0]!);
    this.#changed.add(row);
  }

  /** What is to be written, and the root that follows from it. */
  changes(): { root: Uint8Array; rows: StoredRow[]; nodes: StoredNode[] } {
    const rows = [...this.#changed];
    if (rows.length === 0) return { root: this.#root, rows, nodes: [] };
    const buckets = new Set(rows.map(({ bucket }) => bucket));
    for (const bucket of buckets) {
      child(this.#node(placesAbove(bucket)[levels - 1]!), bucket, levels - 1).set(
        bucketHash(bucket, this.#buckets.get(bucket)!),
      );
    }
    for (let level = levels - 1; level > 0; level--) {
      for (const bucket of buckets) {
        const places = placesAbove(bucket);
        child(this.#node(places[level - 1]!), bucket, level - 1).set(nodeHash(this.#node(places[level]!)));
      }
    }
    const places = new Set([...buckets].flatMap(placesAbove));
    const nodes = [...places].map((place) => ({ place, children: this.#node(place) }));
    return { root: nodeHash(this.#node(0)), rows, nodes };
  }

  #node(place: number): Uint8Array {
    const children = this.#nodes.get(place) ?? new Uint8Array(fan * hashSize);
    this.#nodes.set(place, children);
    return children;
  }

  #refuse(where: string, row: StoredRow | undefined): never {
    const which = row === undefined ? "a row" : `${row.table} ${row.key}, or a row beside it,`;
    throw new KmsError("log/rows", `${where}: ${which} was altered, removed or put back to an earlier state`);
  }
}

/** The hash, in the children of a bucket's node at `level`, of the way to that bucket. */
function child(children: Uint8Array, bucket: number, level: number): Uint8Array {
  const at = ((bucket >> (4 * (levels - 1 - level))) & (fan - 1)) * hashSize;
  return children.subarray(at, at + hashSize);
}

/** A row's key: 2^32 versions of one row are far away, so that random nonces do not meet under it. */
const rowKey = (secret: Uint8Array, { table, key }: RowName): Uint8Array =>
  hmac(secret, frame("caisson/kms-row/v1/key", text(table), text(key)));

const bound = ({ table, key }: RowName, version: number) =>
  frame("caisson/kms-row/v1", text(table), text(key), u64(version));

/** Seals a row under the store's key (32 bytes): nonce (12 bytes) ‖ ciphertext ‖ tag (16 bytes). */
export function sealRow(secret: Uint8Array, name: RowName, { version, value }: Row): StoredRow {
  const nonce = randomBytes(sizes.nonce);
  const cipher = createCipheriv("aes-256-gcm", rowKey(secret, name), nonce).setAAD(bound(name, version));
  const sealed = Buffer.concat([nonce, cipher.update(value), cipher.final(), cipher.getAuthTag()]);
  return { bucket: bucketOf(name), table: name.table, key: name.key, version, sealed };
}

/** The row again. Throws KmsError "log/rows". */
export function openRow(where: string, secret: Uint8Array, row: StoredRow): Row {
  const { version, sealed } = row;
  try {
    const nonce = sealed.subarray(0, sizes.nonce);
    const decipher = createDecipheriv("aes-256-gcm", rowKey(secret, row), nonce, {
      authTagLength: sizes.tag,
    }).setAAD(bound(row, version));
    decipher.setAuthTag(sealed.subarray(sealed.length - sizes.tag));
    const value = decipher.update(sealed.subarray(sizes.nonce, sealed.length - sizes.tag));
    return { version, value: new Uint8Array(Buffer.concat([value, decipher.final()])) };
  } catch (cause) {
    throw new KmsError("log/rows", `${where}: ${row.table} ${row.key} does not open`, { cause });
  }
}
