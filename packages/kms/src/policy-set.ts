// SPDX-License-Identifier: Apache-2.0
/**
 * Policies of any number of applications, in little memory.
 *
 * Invariants: each was read whole before it came here, so that a mistake is found then and not when its first guest asks;
 * a set that was made of another one shares with it what both have, and neither sees what becomes of the other.
 * What is kept of a policy is its text, what a KMS must know of all of them at once, and of those that were asked for last
 * what was read: a million texts are as many bytes, outside of the heap that is collected, and not some hundred million
 * objects. A change of one costs a copy of its shard, so that what is known of all others has no part in it.
 */
import { hash } from "node:crypto";
import {
  acceptedPlatforms,
  type Policy,
  type Reference,
  type TrustAnchor,
  trustAnchorFor,
} from "@caisson/verify";
import { Recent } from "@caisson/vocabulary/recent";

/** What is allowed, and yet hardly what somebody wants. Closed. */
export type PolicyWarningCode = "policy/host-acpi" | "policy/not-covered";

export interface PolicyWarning {
  code: PolicyWarningCode;
  message: string;
}

/** The policy of one application, ready for use. */
export interface AppPolicy {
  /** What evidence is judged by: the file's policy with what a KMS adds. */
  policy: Policy;
  /** Reference values of the manifests that the file allows. */
  references: Reference[];
  keyVersion: number;
  /** Which root its keys follow from (roots.ts). */
  root: number;
  /** Whose volumes it opens; missing: its own. */
  volumeOwner?: string;
  /** SHA-256 of the file: what the release log names. */
  digest: Uint8Array;
  warnings: readonly PolicyWarning[];
}

/** Policies by app id (hex), as far as a release needs them. */
export type Policies = Pick<PolicySet, "get">;

/** A kind of TDX platform that a policy names, with a root that it accepts. */
export interface NamedPlatform {
  fmspc: string;
  trust: TrustAnchor;
}

/** The roots that a policy accepts. */
export const policyRoots = (policy: Policy): TrustAnchor[] =>
  acceptedPlatforms(policy).flatMap((platform) => trustAnchorFor(platform, policy) ?? []);

const namedBy = (policy: Policy): NamedPlatform[] =>
  policyRoots(policy).flatMap((trust) => (policy.fmspcs ?? []).map((fmspc) => ({ fmspc, trust })));

/** What policies have in common: most have it with many others. */
interface Traits {
  /** The same for the same. */
  key: string;
  roots: readonly TrustAnchor[];
  platforms: readonly NamedPlatform[];
  warnings: readonly PolicyWarningCode[];
}

/** Where a policy lies, and how it is read again. */
interface Kept {
  chunk: Buffer;
  at: number;
  size: number;
  keyVersion: number;
  /** Of its row, where operators signed it. */
  version: number | undefined;
  traits: Traits;
  read: (app: string, bytes: Uint8Array) => AppPolicy;
}

/** What a list of policies says of one. */
export interface ListedPolicy {
  app: string;
  keyVersion: number;
  /** SHA-256 of the file. */
  digest: Uint8Array;
  /** Of its row, where operators signed it. */
  version: number | undefined;
  warned: boolean;
}

const chunkSize = 64 * 1024;

/** Texts one after the other in pieces of memory, each of which stays for as long as one of its texts is known. */
class Texts {
  #chunk = Buffer.alloc(0);
  #filled = 0;

  put(bytes: Uint8Array): Pick<Kept, "chunk" | "at" | "size"> {
    const size = bytes.length;
    if (this.#filled + size > this.#chunk.length) {
      this.#chunk = Buffer.allocUnsafeSlow(Math.max(size, chunkSize));
      this.#filled = 0;
    }
    const at = this.#filled;
    this.#chunk.set(bytes, at);
    this.#filled += size;
    return { chunk: this.#chunk, at, size };
  }
}

/** Some of the policies, and how many of them have which traits, by their key. Only `set` and `delete` change it. */
class Shard {
  readonly kept: Map<string, Kept>;
  readonly traits: Map<string, { traits: Traits; count: number }>;

  constructor(first?: Shard, second?: Shard) {
    this.kept = new Map(first?.kept);
    this.traits = new Map(first?.traits);
    for (const [app, kept] of second?.kept ?? []) this.set(app, kept);
  }

  set(app: string, kept: Kept): void {
    this.delete(app);
    this.kept.set(app, kept);
    this.#count(kept.traits, 1);
  }

  delete(app: string): void {
    const kept = this.kept.get(app);
    if (kept === undefined) return;
    this.kept.delete(app);
    this.#count(kept.traits, -1);
  }

  #count(traits: Traits, by: number): void {
    const count = (this.traits.get(traits.key)?.count ?? 0) + by;
    if (count === 0) this.traits.delete(traits.key);
    else this.traits.set(traits.key, { traits, count });
  }
}

/** The shard of an application (id in hex): the first byte of it. */
export const shardOf = (app: string): string => app.slice(0, 2);
/** Rows with what is known of a shard's applications that are read at once: of a million some 60 kB each. */
export const shardsAtOnce = 16;

export class PolicySet {
  readonly #shards = new Map<string, Shard>();
  /** Those of the shards that no other set has. */
  readonly #own = new Set<Shard>();
  readonly #texts: Texts;
  /** As read, the last that were asked for, here or in a set that shares with this one; some are of neither any more. */
  readonly #read: Recent<{ kept: Kept; policy: AppPolicy }>;

  /** With what is in other sets. */
  constructor(...others: readonly PolicySet[]) {
    const [first] = others;
    this.#texts = first === undefined ? new Texts() : first.#texts;
    this.#read = first === undefined ? new Recent(4096) : first.#read;
    for (const other of others) {
      other.#own.clear();
      for (const [name, shard] of other.#shards) {
        const one = this.#shards.get(name);
        this.#shards.set(name, one === undefined ? shard : new Shard(one, shard));
      }
    }
  }

  get size(): number {
    return this.#shards.values().reduce((sum, { kept }) => sum + kept.size, 0);
  }

  has(app: string): boolean {
    return this.#kept(app) !== undefined;
  }

  /** Adds a policy, or puts it in the place of the application's other one; `read` gives the same for `bytes`. */
  set(app: string, policy: AppPolicy, bytes: Uint8Array, read: Kept["read"], version?: number): void {
    const shard = this.#changing(app);
    const found = traitsOf(policy);
    const traits = shard.traits.get(found.key)?.traits ?? found;
    const kept = { ...this.#texts.put(bytes), keyVersion: policy.keyVersion, version, traits, read };
    shard.set(app, kept);
    this.#read.set(app, { kept, policy });
  }

  delete(app: string): void {
    if (this.has(app)) this.#changing(app).delete(app);
  }

  /** The policy of an application (id in hex), ready for use. */
  get(app: string): AppPolicy | undefined {
    const kept = this.#kept(app);
    if (kept === undefined) return undefined;
    const known = this.#read.get(app);
    if (known?.kept === kept) return known.policy;
    const policy = kept.read(app, textOf(kept));
    this.#read.set(app, { kept, policy });
    return policy;
  }

  /** The version of a policy that operators signed. */
  version(app: string): number | undefined {
    return this.#kept(app)?.version;
  }

  /** An application that both sets have a policy for. */
  common(other: PolicySet): string | undefined {
    const [few, many] = this.size < other.size ? [this, other] : [other, this];
    return few.apps().find((app) => many.has(app));
  }

  /** All applications, or those of a shard. */
  *apps(shard?: string): Generator<string> {
    const shards = shard === undefined ? this.#shards.values() : [this.#shards.get(shard)];
    for (const one of shards) yield* one?.kept.keys() ?? [];
  }

  /** Applications that have an identity (their ids are 32 bytes): whose releases are judged. */
  identities(): Set<string> {
    return new Set(this.apps().filter((app) => app.length === 64));
  }

  /** Those of them that are not in `before`, the same. */
  *list(before?: PolicySet): Iterable<ListedPolicy> {
    for (const [name, shard] of this.#shards) {
      const known = before === undefined ? undefined : before.#shards.get(name);
      if (known === shard) continue;
      for (const [app, kept] of shard.kept) {
        if (!isSame(known?.kept.get(app), kept)) yield listed(app, kept);
      }
    }
  }

  /** Those of applications after one, in the order of their ids. */
  *following(app: string): Generator<ListedPolicy> {
    for (const name of [...this.#shards.keys()].sort()) {
      if (name < shardOf(app)) continue;
      const { kept } = this.#shards.get(name)!;
      const apps = [...kept.keys()].filter((one) => one > app).sort();
      for (const one of apps) yield listed(one, kept.get(one)!);
    }
  }

  /** All roots that some policy accepts, each once. */
  roots(): TrustAnchor[] {
    const roots = this.#distinct().flatMap((traits) => traits.roots);
    return [...new Map(roots.map((root) => [root.rootKey.toHex(), root])).values()];
  }

  /** Kinds of TDX platform that some policy names. */
  platforms(): NamedPlatform[] {
    return this.#distinct().flatMap((traits) => traits.platforms);
  }

  /** How many policies have each warning. */
  warnings(): Map<PolicyWarningCode, number> {
    const counts = new Map<PolicyWarningCode, number>([
      ["policy/host-acpi", 0],
      ["policy/not-covered", 0],
    ]);
    for (const { traits, count } of this.#traits())
      for (const code of traits.warnings) counts.set(code, counts.get(code)! + count);
    return counts;
  }

  *#traits(): Generator<{ traits: Traits; count: number }> {
    for (const { traits } of this.#shards.values()) yield* traits.values();
  }

  #distinct(): Traits[] {
    return [...new Map(this.#traits().map(({ traits }) => [traits.key, traits])).values()];
  }

  #kept(app: string): Kept | undefined {
    return this.#shards.get(shardOf(app))?.kept.get(app);
  }

  /** The shard of an application, for this set to change. */
  #changing(app: string): Shard {
    const name = shardOf(app);
    const shard = this.#shards.get(name);
    if (shard !== undefined && this.#own.has(shard)) return shard;
    const copy = new Shard(shard);
    this.#shards.set(name, copy);
    this.#own.add(copy);
    return copy;
  }
}

function traitsOf({ policy, warnings }: AppPolicy): Traits {
  const [roots, platforms] = [policyRoots(policy), namedBy(policy)];
  const codes = warnings.map(({ code }) => code);
  const named = platforms.map(({ fmspc, trust }) => `${fmspc} ${trust.rootKey.toHex()}`);
  const key = [roots.map(({ rootKey }) => rootKey.toHex()), named, codes].join("|");
  return { key, roots, platforms, warnings: codes };
}

function listed(app: string, kept: Kept): ListedPolicy {
  const { keyVersion, version, traits } = kept;
  const digest = hash("sha256", textOf(kept), "buffer");
  return { app, keyVersion, digest, version, warned: traits.warnings.length > 0 };
}

/** Whether two are of one text, which says all of a policy: it names manifests by their hash. */
const isSame = (one: Kept | undefined, other: Kept): boolean =>
  one === other ||
  (one !== undefined && one.version === other.version && Buffer.compare(textOf(one), textOf(other)) === 0);

const textOf = ({ chunk, at, size }: Kept): Uint8Array => chunk.subarray(at, at + size);
