// SPDX-License-Identifier: Apache-2.0
/**
 * Who may change what a KMS decides by: operators' keys. What they change is policies and their own list.
 *
 * Invariants of a request (`operator-request.ts`): enough operators of the list *in force* signed it; it works once, because
 * what it replaces is then another version; the change and its entry in the release log are one commit; the digest in
 * the entry is that of the bytes that count from then on.
 */
import { createHash } from "node:crypto";
import { ReleaseError, readEnvelope, signersOf, writeCanonical } from "@caisson/releases";
import { text as utf8 } from "@caisson/vocabulary/frame";
import { KmsError } from "./errors.ts";
import {
  type Changed,
  type OperatorRequest,
  type Operators,
  operatorList,
  operatorRequest,
} from "./operator-request.ts";
import { type PolicyReading, readAppPolicy, rereading } from "./policies.ts";
import { PolicySet, shardOf, shardsAtOnce } from "./policy-set.ts";
import { rootsRow, rotate } from "./roots.ts";
import { change, readInPieces, update } from "./store/change.ts";
import { changedEntry } from "./store/entries.ts";
import { bucketOf, jsonOf, type Row, type RowName, textOf } from "./store/rows.ts";
import type { Commit, RowChange, Store } from "./store/store.ts";
import { operationsRow, type VolumeBook } from "./volumes/book.ts";

/** Rows that hold what operators signed. */
export const operatorRows = {
  operators: { table: "operators", key: "list" },
  index: { table: "policies", key: "index" },
  shard: (shard: string): RowName => ({ table: "policies", key: `index-${shard}` }),
  policy: (id: string): RowName => ({ table: "policies", key: id }),
};

/**
 * The version of rows by the first byte of an application's id, which are the shards of the index, and in each by
 * application: so that a release compares one small row, whose version is that of all policies, and a change rewrites
 * one shard.
 */
type Index = Record<string, number>;

/** Rows that are read at once; shards are larger (policy-set.ts). */
const rowsAtOnce = 500;
/** How often changes are followed that come while they are read. */
const readings = 100;

/** What signed policies are read with. */
export interface SignedReading extends Omit<PolicyReading, "manifests"> {
  /** The manifests that they may name, as they lie there now. Throws KmsError. */
  manifests: () => PolicyReading["manifests"];
  /** Gets the application of one that was signed elsewhere and cannot be read here, and why. */
  leftOut?: (app: string, error: KmsError) => void;
}

const readingWith = (reading: PolicyReading) => ({ reading, again: rereading(reading) });

/** Policies and operators in a store. */
export class Administration {
  readonly #store: Store;
  readonly #reading: SignedReading;
  #with: { reading: PolicyReading; again: ReturnType<typeof rereading> };
  /** Applications whose policy cannot be read here, and why. */
  readonly #leftOut = new Map<string, KmsError>();
  readonly #now: () => number;
  #policies = new PolicySet();
  #index: Row | undefined;
  readonly #volumes: Pick<VolumeBook, "operate"> | undefined;

  constructor(
    store: Store,
    reading: SignedReading,
    now: () => number,
    volumes?: Pick<VolumeBook, "operate">,
  ) {
    this.#store = store;
    this.#volumes = volumes;
    this.#reading = reading;
    this.#with = readingWith({ ...reading, manifests: new Map() });
    this.#now = now;
  }

  /**
   * Policies in force when they were last read, and what a release compares, so that no key leaves under policies that
   * are not in force any more.
   */
  get inForce(): { policies: PolicySet; guard?: RowChange } {
    const policies = this.#policies;
    return this.#index === undefined
      ? { policies }
      : { policies, guard: { ...operatorRows.index, version: this.#index.version } };
  }

  /**
   * Reads what changed of the policies that are in force. Whether something did. `files`: manifests, too; then a policy that
   * cannot be read is an error, and otherwise its application has none here. Throws KmsError.
   */
  async refresh(files = false): Promise<boolean> {
    if (!files) return this.#refresh([]);
    this.#with = readingWith({ ...this.#reading, manifests: this.#reading.manifests() });
    const changed = await this.#refresh([...this.#leftOut.keys()]);
    const [error] = this.#leftOut.values();
    if (error !== undefined) throw error;
    return changed;
  }

  /** `again`: applications that are read whether their policy changed or not. */
  async #refresh(again: readonly string[]): Promise<boolean> {
    let policies: PolicySet | undefined;
    const known = jsonOf<Index>(this.#index) ?? {};
    for (const app of again) delete known[shardOf(app)];
    for (let i = 0; i < readings; i++) {
      const [index] = await this.#store.read([operatorRows.index]);
      if (again.length === 0 && index?.version === this.#index?.version) return false;
      policies ??= new PolicySet(this.#policies);
      const wanted = jsonOf<Index>(index) ?? {};
      if (await this.#follow(policies, known, wanted)) {
        this.#policies = policies;
        this.#index = index;
        return true;
      }
      // A change meanwhile: what was read stays, and what it brought is read. Its shard has a version that nothing had before.
    }
    throw new KmsError("log/unavailable", `others changed policies ${readings} times while they were read`);
  }

  /** Brings `policies` from one index to another; false where rows were another version's. */
  async #follow(policies: PolicySet, known: Index, wanted: Index): Promise<boolean> {
    const shards = Object.keys(wanted).filter((shard) => known[shard] !== wanted[shard]);
    const indexes = new Map<string, Index>();
    for await (const [i, row] of readInPieces(this.#store, shards.map(operatorRows.shard), shardsAtOnce)) {
      const shard = shards[i]!;
      if (row?.version !== wanted[shard]) return false;
      indexes.set(shard, jsonOf<Index>(row)!);
    }
    const isGone = (app: string) => {
      const index = indexes.get(shardOf(app));
      return index !== undefined && index[app] === undefined;
    };
    for (const shard of shards) for (const app of policies.apps(shard)) if (isGone(app)) policies.delete(app);
    for (const app of this.#leftOut.keys()) if (isGone(app)) this.#leftOut.delete(app);
    // Those of one bucket together, so that each bucket is read once.
    const news = [...indexes.values()]
      .flatMap(Object.entries<number>)
      .filter(([app, version]) => policies.version(app) !== version)
      .map(([app, version]) => ({ app, version, bucket: bucketOf(operatorRows.policy(app)) }))
      .sort((one, other) => one.bucket - other.bucket);
    const names = news.map(({ app }) => operatorRows.policy(app));
    for await (const [i, row] of readInPieces(this.#store, names, rowsAtOnce)) {
      const { app, version } = news[i]!;
      if (row?.version !== version) return false;
      this.#take(policies, app, row.value, version);
    }
    return true;
  }

  #take(policies: PolicySet, app: string, bytes: Uint8Array, version: number): void {
    const { reading, again } = this.#with;
    try {
      const { policy } = readAppPolicy(`policy of ${app}`, bytes, reading);
      policies.set(app, policy, bytes, again, version);
      this.#leftOut.delete(app);
    } catch (error) {
      if (!(error instanceof KmsError)) throw error;
      policies.delete(app);
      this.#leftOut.set(app, error);
      this.#reading.leftOut?.(app, error);
    }
  }

  /** The file of a policy in force, and its version; undefined where there is none. */
  async policyFile(id: string): Promise<{ version: number; policy: string } | undefined> {
    const [index, row] = await this.#store.read([operatorRows.shard(shardOf(id)), operatorRows.policy(id)]);
    if (row === undefined || jsonOf<Index>(index)?.[id] !== row.version) return undefined;
    return { version: row.version, policy: textOf(row) };
  }

  /** Undefined where none were ever named. */
  async operators(): Promise<(Operators & { version: number }) | undefined> {
    const [row] = await this.#store.read([operatorRows.operators]);
    const found = jsonOf<Operators>(row);
    return found && { ...operatorList(found), version: row!.version };
  }

  /** Names the first operators, where there are none; false where there are. Throws KmsError. */
  async begin(first: Operators): Promise<boolean> {
    const value = this.#checkOperators(first);
    const { committed } = await change(this.#store, [operatorRows.operators], ([row]) =>
      row === undefined
        ? { entry: this.#entry("operators/begin", value), rows: [update(operatorRows.operators, row, value)] }
        : undefined,
    );
    return committed === "done";
  }

  /**
   * Does what enough operators signed. `document` is parsed JSON; `files` are this replica's policies that are files, none
   * of which is signed besides. Throws ReleaseError "envelope/malformed", KmsError `operators/…` or `policy/…`.
   */
  async apply(document: unknown, files: Pick<PolicySet, "has"> = new Set()): Promise<Changed> {
    const envelope = readEnvelope(document);
    const asked = operatorRequest(envelope);
    if (asked.kms !== this.#reading.identityKey) {
      throw new KmsError("operators/other-kms", `the request is for the KMS ${asked.kms}`);
    }
    if (asked.expires < this.#now()) {
      const when = new Date(asked.expires).toISOString();
      throw new KmsError("operators/expired", `the request was good until ${when}`);
    }
    const inForce = await this.operators();
    if (inForce === undefined) {
      throw new KmsError("operators/none", "this KMS has no operators; its policies are files", {
        fix: "caisson kms serve --operators FILE names the first",
      });
    }
    // Each is tried with each key: what anybody can send costs no more than what operators do.
    if (envelope.signatures.length > inForce.keys.length) {
      throw new KmsError(
        "operators/signatures",
        `${envelope.signatures.length} signatures, of ${inForce.keys.length} operators`,
      );
    }
    const signers = (await signersOf(envelope, inForce.keys)).map(({ key }) => key);
    if (signers.length < inForce.threshold) {
      throw new KmsError(
        "operators/signatures",
        `${signers.length} operators signed the request; ${inForce.threshold} are needed`,
      );
    }
    const guard = { ...operatorRows.operators, version: inForce.version };
    if (asked.action === "volume/operate") {
      const once = { ...operationsRow, version: asked.replaces, value: utf8(asked.operation) };
      await this.#volumes!.operate(asked.volume, asked.operation, [guard, once]);
      return { action: asked.action, version: asked.replaces + 1, signers };
    }
    if (asked.action === "policy/set" && files.has(asked.app)) {
      throw new KmsError("policy/duplicate", `a file of this replica's has the policy of app ${asked.app}`, {
        fix: "remove the file and send SIGHUP first, at each replica",
      });
    }
    const commit = await this.#commitOf(asked, guard);
    if ((await this.#store.commit(commit)) === "done") {
      await this.refresh();
      return { action: asked.action, version: asked.replaces + 1, signers };
    }
    throw new KmsError("operators/conflict", `version ${asked.replaces} is not what is in force`, {
      fix: "look at what is in force now, and sign again",
    });
  }

  async #commitOf(
    asked: Exclude<OperatorRequest, { action: "volume/operate" }>,
    guard: RowChange,
  ): Promise<Commit> {
    if (asked.action === "root/rotate") {
      const [row] = await this.#store.read([rootsRow]);
      const { entry, row: roots } = rotate(row, asked, this.#now());
      return { entry, rows: [guard, { ...roots, version: asked.replaces }] };
    }
    if (asked.action === "operators/set") {
      const value = this.#checkOperators(asked.operators);
      return {
        entry: this.#entry(asked.action, value),
        rows: [guard, { ...operatorRows.operators, version: asked.replaces, value }],
      };
    }
    const value = asked.action === "policy/set" ? utf8(asked.policy) : new Uint8Array();
    if (asked.action === "policy/set") {
      const read = readAppPolicy("the policy", value, this.#with.reading);
      if (read.app !== asked.app) {
        throw new KmsError(
          "policy/malformed",
          `the policy is of app ${read.app}, the request of ${asked.app}`,
        );
      }
    }
    const shard = shardOf(asked.app);
    const [index, part] = await this.#store.read([operatorRows.index, operatorRows.shard(shard)]);
    const { [asked.app]: current, ...others } = jsonOf<Index>(part) ?? {};
    // What was removed has a version, too, which its successor replaces.
    const apps = asked.action === "policy/set" ? { ...others, [asked.app]: asked.replaces + 1 } : others;
    const shards = { ...jsonOf<Index>(index), [shard]: (part?.version ?? 0) + 1 };
    if (asked.action === "policy/remove" && current === undefined) {
      throw new KmsError("operators/conflict", `there is no policy for app ${asked.app}`);
    }
    return {
      entry: { ...this.#entry(asked.action, value), app: Uint8Array.fromHex(asked.app) },
      rows: [
        guard,
        { ...operatorRows.policy(asked.app), version: asked.replaces, value },
        update(operatorRows.shard(shard), part, utf8(JSON.stringify(apps))),
        update(operatorRows.index, index, utf8(JSON.stringify(shards))),
      ],
    };
  }

  #checkOperators(list: Operators): Uint8Array {
    const { keys, threshold } = list;
    if (
      new Set(keys.map(({ type, key }) => `${type}:${key}`)).size < keys.length ||
      threshold > keys.length
    ) {
      throw new KmsError(
        "operators/malformed",
        "operators are different keys, at least as many as are needed",
      );
    }
    return writeCanonical({ keys, threshold });
  }

  #entry(reason: string, value: Uint8Array) {
    return changedEntry(this.#now(), reason, { policy: createHash("sha256").update(value).digest() });
  }
}

/** Whether this is the asker's fault: everything but the store's. */
export const isRequestError = (error: unknown): error is KmsError | ReleaseError =>
  error instanceof ReleaseError ||
  (error instanceof KmsError && /^(operators|policy|root|volumes)\//.test(error.code));
