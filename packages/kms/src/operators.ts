// SPDX-License-Identifier: Apache-2.0
/**
 * Who may change what a KMS decides by: operators' keys. What they change is policies and their own list.
 *
 * A request is a DSSE envelope over canonical JSON that names this KMS, the version of what it replaces and a time after
 * which it is not taken. Invariants: enough operators of the list *in force* signed it; a request works once, because
 * what it replaces is then another version; the change and its entry in the release log are one commit; the digest in
 * the entry is that of the bytes that count from then on.
 */
import { createHash } from "node:crypto";
import {
  type Envelope,
  type PublicKey,
  payloadOf,
  publicKeySchema,
  ReleaseError,
  readCanonical,
  readEnvelope,
  signersOf,
  writeCanonical,
} from "@caisson/releases";
import { text as utf8 } from "@caisson/vocabulary/frame";
import { hex, type Infer, integer, list, object, oneOf, type Schema, text } from "@caisson/vocabulary/schema";
import { KmsError } from "./errors.ts";
import { type AppPolicy, type Policies, type PolicyReading, readAppPolicy } from "./policies.ts";
import { rootsRow, rotate } from "./roots.ts";
import type { Row, RowName } from "./store/rows.ts";
import { type Commit, change, type RowChange, type Store, update } from "./store/store.ts";
import { operationsRow, type VolumeBook } from "./volumes/book.ts";

const operatorPayloadType = "application/vnd.caisson.kms-request.v1+json";

/** Whose signatures count, and how many are needed. */
export interface Operators {
  keys: readonly PublicKey[];
  threshold: number;
}

const version = oneOf("caisson/kms-request/v1");
const number = integer(0, Number.MAX_SAFE_INTEGER);
const operators = object({ keys: list(publicKeySchema, 1, 64), threshold: integer(1, 64) });
const common = {
  version,
  /** The KMS's identity. */
  kms: hex(32),
  /** Not taken after it: milliseconds since 1970. */
  expires: integer(0, Number.MAX_SAFE_INTEGER),
  /** The version of what is replaced: 0 where there is nothing. */
  replaces: number,
};
/** An application: the beginning of its compose hash, or its identity. */
const app = text("20 or 32 bytes in hexadecimal", /^([0-9a-f]{40}|[0-9a-f]{64})$/, 64);
const setPolicy = object({
  ...common,
  action: oneOf("policy/set"),
  app,
  policy: text("a policy file", /^[^]+$/, 40_000),
});
const removePolicy = object({ ...common, action: oneOf("policy/remove"), app });
const rotateRoot = object({
  ...common,
  action: oneOf("root/rotate"),
  /** When the new root begins, and the one before it ends: milliseconds since 1970. */
  from: number,
  until: number,
});
const operateVolume = object({
  ...common,
  action: oneOf("volume/operate"),
  volume: hex(32),
  operation: oneOf("allow", "suspect", "delete"),
});
const setOperators = object({ ...common, action: oneOf("operators/set"), operators });
/** What operators sign. */
export type OperatorRequest =
  | Infer<typeof setPolicy>
  | Infer<typeof removePolicy>
  | Infer<typeof setOperators>
  | Infer<typeof rotateRoot>
  | Infer<typeof operateVolume>;

const actions: Record<OperatorRequest["action"], Schema<OperatorRequest>> = {
  "policy/set": setPolicy,
  "policy/remove": removePolicy,
  "operators/set": setOperators,
  "root/rotate": rotateRoot,
  "volume/operate": operateVolume,
};
const actionNames = Object.keys(actions) as OperatorRequest["action"][];
const request: Schema<OperatorRequest> = (value) => {
  const { action } = object({ action: oneOf(...actionNames) }, "loose")(value);
  return actions[action](value);
};

const requestLimit = 48 * 1024;

const names = {
  operators: { table: "operators", key: "list" },
  index: { table: "policies", key: "index" },
  policy: (id: string): RowName => ({ table: "policies", key: id }),
};

/** By application: the version of its row; all of them in one row, so that a release compares only that. */
type Index = Record<string, number>;

const decode = <T>(row: Row | undefined): T | undefined =>
  row === undefined ? undefined : (JSON.parse(new TextDecoder().decode(row.value)) as T);

/** The bytes of a request that operators sign, as an envelope without signatures. Throws SchemaError. */
export function operatorEnvelope(document: OperatorRequest): Envelope {
  return { payload: writeCanonical(request(document)), payloadType: operatorPayloadType, signatures: [] };
}

/** What came of a request. */
export interface Changed {
  action: OperatorRequest["action"];
  /** What the row is now. */
  version: number;
  /** The signers, hexadecimal. */
  signers: string[];
}

/** What signed policies are read with. */
export interface SignedReading extends Omit<PolicyReading, "manifests"> {
  /** The manifests that they may name, as they lie there now. Throws KmsError. */
  manifests: () => PolicyReading["manifests"];
  /** Gets the application of one that was signed elsewhere and cannot be read here, and why. */
  leftOut?: (app: string, error: KmsError) => void;
}

/** Policies and operators in a store. */
export class Administration {
  readonly #store: Store;
  readonly #reading: SignedReading;
  #manifests: PolicyReading["manifests"] = new Map();
  readonly #now: () => number;
  #policies: ReadonlyMap<string, AppPolicy & { version: number }> = new Map();
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
    this.#now = now;
  }

  /**
   * Policies in force when they were last read, and what a release compares, so that no key leaves under policies that
   * are not in force any more.
   */
  get inForce(): { policies: ReadonlyMap<string, AppPolicy & { version: number }>; guard?: RowChange } {
    const policies = this.#policies;
    return this.#index === undefined
      ? { policies }
      : { policies, guard: { ...names.index, version: this.#index.version } };
  }

  /**
   * Reads the policies that are in force. Whether they are others than before. `files`: manifests, too; then a policy that
   * cannot be read is an error, and otherwise its application has none here. Throws KmsError.
   */
  async refresh(files = false): Promise<boolean> {
    const manifests = files ? this.#reading.manifests() : this.#manifests;
    const [index] = await this.#store.read([names.index]);
    if (!files && index?.version === this.#index?.version) return false;
    const ids = Object.keys(decode<Index>(index) ?? {});
    const rows = await this.#store.read(ids.map(names.policy));
    const policies = new Map<string, AppPolicy & { version: number }>();
    for (const [i, id] of ids.entries()) {
      const row = rows[i]!;
      // A change meanwhile: the next reading has both.
      if (row === undefined || row.version !== decode<Index>(index)![id]) return this.refresh(files);
      try {
        const { policy } = readAppPolicy(`policy of ${id}`, row.value, { ...this.#reading, manifests });
        policies.set(id, { ...policy, version: row.version });
      } catch (error) {
        if (files || !(error instanceof KmsError)) throw error;
        this.#reading.leftOut?.(id, error);
      }
    }
    this.#manifests = manifests;
    this.#policies = policies;
    this.#index = index;
    return true;
  }

  /** The file of a policy in force, and its version; undefined where there is none. */
  async policyFile(id: string): Promise<{ version: number; policy: string } | undefined> {
    const [index, row] = await this.#store.read([names.index, names.policy(id)]);
    if (row === undefined || decode<Index>(index)?.[id] !== row.version) return undefined;
    return { version: row.version, policy: new TextDecoder().decode(row.value) };
  }

  /** Undefined where none were ever named. */
  async operators(): Promise<(Operators & { version: number }) | undefined> {
    const [row] = await this.#store.read([names.operators]);
    const found = decode<Operators>(row);
    return found && { ...operators(found), version: row!.version };
  }

  /** Names the first operators, where there are none; false where there are. Throws KmsError. */
  async begin(first: Operators): Promise<boolean> {
    const value = this.#checkOperators(first);
    const { committed } = await change(this.#store, [names.operators], ([row]) =>
      row === undefined
        ? { entry: this.#entry("operators/begin", value), rows: [update(names.operators, row, value)] }
        : undefined,
    );
    return committed === "done";
  }

  /**
   * Does what enough operators signed. `document` is parsed JSON; `files` are this replica's policies that are files, none
   * of which is signed besides. Throws ReleaseError "envelope/malformed", KmsError `operators/…` or `policy/…`.
   */
  async apply(document: unknown, files: Pick<Policies, "has"> = new Set()): Promise<Changed> {
    const envelope = readEnvelope(document);
    const payload = payloadOf(envelope, operatorPayloadType);
    const asked = readCanonical(payload, request, "envelope/malformed", requestLimit);
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
    const signers = (await signersOf(envelope, inForce.keys)).map(({ key }) => key);
    if (signers.length < inForce.threshold) {
      throw new KmsError(
        "operators/signatures",
        `${signers.length} operators signed the request; ${inForce.threshold} are needed`,
      );
    }
    const guard = { ...names.operators, version: inForce.version };
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
        rows: [guard, { ...names.operators, version: asked.replaces, value }],
      };
    }
    const value = asked.action === "policy/set" ? utf8(asked.policy) : new Uint8Array();
    if (asked.action === "policy/set") {
      const read = readAppPolicy("the policy", value, { ...this.#reading, manifests: this.#manifests });
      if (read.app !== asked.app) {
        throw new KmsError(
          "policy/malformed",
          `the policy is of app ${read.app}, the request of ${asked.app}`,
        );
      }
    }
    const [row] = await this.#store.read([names.index]);
    const { [asked.app]: current, ...others } = decode<Index>(row) ?? {};
    // What was removed has a version, too, which its successor replaces.
    const index = asked.action === "policy/set" ? { ...others, [asked.app]: asked.replaces + 1 } : others;
    if (asked.action === "policy/remove" && current === undefined) {
      throw new KmsError("operators/conflict", `there is no policy for app ${asked.app}`);
    }
    return {
      entry: { ...this.#entry(asked.action, value), app: Uint8Array.fromHex(asked.app) },
      rows: [
        guard,
        { ...names.policy(asked.app), version: asked.replaces, value },
        update(names.index, row, utf8(JSON.stringify(index))),
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
    const none = new Uint8Array();
    const policy = createHash("sha256").update(value).digest();
    return {
      time: this.#now(),
      app: none,
      instance: none,
      registers: none,
      policy,
      outcome: "changed",
      reason,
    } as const;
  }
}

/** A file of operators: { keys: [{ type, key }, …], threshold }. Throws KmsError "operators/malformed". */
export function readOperators(path: string, content: string): Operators {
  try {
    return operators(JSON.parse(content));
  } catch (error) {
    throw new KmsError(
      "operators/malformed",
      `${path}: ${error instanceof Error ? error.message : "no list"}`,
    );
  }
}

/** Whether this is the asker's fault: everything but the store's. */
export const isRequestError = (error: unknown): error is KmsError | ReleaseError =>
  error instanceof ReleaseError ||
  (error instanceof KmsError && /^(operators|policy|root|volumes)\//.test(error.code));
