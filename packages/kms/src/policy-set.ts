// SPDX-License-Identifier: Apache-2.0
/**
 * Policies of any number of applications, in little memory.
 *
 * Invariant: each was read whole before it came here, so that a mistake is found then and not when its first guest asks.
 * What is kept of it is its text, what a KMS must know of all of them at once, and of those that were asked for last what
 * was read: a million texts are as many bytes, outside of the heap that is collected, and not some hundred million objects.
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

export class PolicySet {
  readonly #kept = new Map<string, Kept>();
  /** As read, the last that were asked for. What is not kept any more may still be here. */
  readonly #read = new Recent<AppPolicy>(4096);
  readonly #traits = new Map<string, Traits>();
  #chunk = Buffer.alloc(0);
  #filled = 0;

  /** With what is in other sets, which share their texts with it. */
  constructor(...others: readonly PolicySet[]) {
    for (const other of others) for (const [app, kept] of other.#kept) this.#kept.set(app, kept);
  }

  get size(): number {
    return this.#kept.size;
  }

  has(app: string): boolean {
    return this.#kept.has(app);
  }

  /** Adds a policy, or puts it in the place of the application's other one; `read` gives the same for `bytes`. */
  set(app: string, policy: AppPolicy, bytes: Uint8Array, read: Kept["read"], version?: number): void {
    const { keyVersion } = policy;
    this.#kept.set(app, { ...this.#put(bytes), keyVersion, version, traits: this.#traitsOf(policy), read });
    this.#read.set(app, policy);
  }

  delete(app: string): void {
    this.#kept.delete(app);
  }

  /** The policy of an application (id in hex), ready for use. */
  get(app: string): AppPolicy | undefined {
    const kept = this.#kept.get(app);
    if (kept === undefined) return undefined;
    const known = this.#read.get(app);
    if (known !== undefined) return known;
    const policy = kept.read(app, textOf(kept));
    this.#read.set(app, policy);
    return policy;
  }

  /** The version of a policy that operators signed. */
  version(app: string): number | undefined {
    return this.#kept.get(app)?.version;
  }

  /** An application that both sets have a policy for. */
  common(other: PolicySet): string | undefined {
    for (const app of this.#kept.keys()) if (other.has(app)) return app;
    return undefined;
  }

  apps(): Iterable<string> {
    return this.#kept.keys();
  }

  /** Applications that have an identity (their ids are 32 bytes): whose releases are judged. */
  identities(): Set<string> {
    return new Set([...this.#kept.keys()].filter((app) => app.length === 64));
  }

  /** Those of them that are not in `before`, the very same. */
  *list(before?: PolicySet): Iterable<ListedPolicy> {
    for (const [app, kept] of this.#kept) {
      if (before !== undefined && before.#kept.get(app) === kept) continue;
      const { keyVersion, version, traits } = kept;
      const digest = hash("sha256", textOf(kept), "buffer");
      yield { app, keyVersion, digest, version, warned: traits.warnings.length > 0 };
    }
  }

  /** All roots that some policy accepts, each once. */
  roots(): TrustAnchor[] {
    const roots = [...this.#distinct()].flatMap((traits) => traits.roots);
    return [...new Map(roots.map((root) => [root.rootKey.toHex(), root])).values()];
  }

  /** Kinds of TDX platform that some policy names. */
  platforms(): NamedPlatform[] {
    return [...this.#distinct()].flatMap((traits) => traits.platforms);
  }

  /** How many policies have each warning. */
  warnings(): Map<PolicyWarningCode, number> {
    const counts = new Map<PolicyWarningCode, number>([
      ["policy/host-acpi", 0],
      ["policy/not-covered", 0],
    ]);
    for (const { traits } of this.#kept.values())
      for (const code of traits.warnings) counts.set(code, counts.get(code)! + 1);
    return counts;
  }

  #distinct(): Set<Traits> {
    return new Set([...this.#kept.values()].map(({ traits }) => traits));
  }

  #traitsOf({ policy, warnings }: AppPolicy): Traits {
    const [roots, platforms] = [policyRoots(policy), namedBy(policy)];
    const codes = warnings.map(({ code }) => code);
    const named = platforms.map(({ fmspc, trust }) => `${fmspc} ${trust.rootKey.toHex()}`);
    const key = [roots.map(({ rootKey }) => rootKey.toHex()), named, codes].join("|");
    const traits = this.#traits.get(key) ?? { roots, platforms, warnings: codes };
    this.#traits.set(key, traits);
    return traits;
  }

  #put(bytes: Uint8Array): Pick<Kept, "chunk" | "at" | "size"> {
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

const textOf = ({ chunk, at, size }: Kept): Uint8Array => chunk.subarray(at, at + size);
