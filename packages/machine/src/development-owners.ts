// SPDX-License-Identifier: Apache-2.0
/**
 * The owners of an application under development: one key for everything, unprotected, beside the image. So a newcomer
 * sees the whole life of an application without doing anything: an identity, a release of each image that is started, and
 * secrets. Nothing of it is for production, whose owners sign offline (docs/releases.md).
 *
 *     <state>/owner/key.pem, identity.json, release.json, secrets.json
 *     <state>/secrets/NAME   values; made up where there are none
 */
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  hash,
  type KeyObject,
  randomBytes,
  sign,
} from "node:crypto";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { seal } from "@caisson/protocol/hpke";
import type { SealingKeyDocument } from "@caisson/protocol/key-release";
import {
  type Envelope,
  identityVersion,
  readEnvelope,
  readIdentity,
  readSecretsDocument,
  readStatement,
  sealBinding,
  signedBytes,
  writeBundle,
  writeCanonical,
  writeEnvelope,
  writeSecrets,
  writeStatement,
} from "@caisson/releases";
import { toHex } from "@caisson/vocabulary/bytes";
import { makeDirectory } from "@caisson/vocabulary/directory";

const day = 24 * 3600 * 1000;
const written = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;

/** A release and what a machine's host gives it. */
export interface DevelopmentRelease {
  number: number;
  /** `caisson/bundle/v1`. */
  bundle: object;
}

export class DevelopmentOwners {
  readonly #state: string;
  readonly #key: KeyObject;
  /** The first identity document, and the application's id (hex). */
  readonly identity: Uint8Array;
  readonly id: string;

  private constructor(state: string, key: KeyObject, identity: Uint8Array, id: string) {
    this.#state = state;
    this.#key = key;
    this.identity = identity;
    this.id = id;
  }

  /** The owners whose files lie in `state`; made at the first start, the same ever after. */
  static async open(state: string, name: string): Promise<DevelopmentOwners> {
    makeDirectory(join(state, "owner"), 0o700);
    const path = join(state, "owner", "key.pem");
    if (!existsSync(path)) {
      const { privateKey } = generateKeyPairSync("ed25519");
      writeWhole(path, privateKey.export({ format: "pem", type: "pkcs8" }));
    }
    const key = createPrivateKey(readFileSync(path));
    const document = join(state, "owner", "identity.json");
    if (!existsSync(document)) {
      const raw = createPublicKey(key).export({ format: "der", type: "spki" }).subarray(12);
      const keys = { threshold: 1, keys: [{ type: "ed25519", key: raw.toString("hex") }] };
      const rest = { rebuild: null, secrets: null, log: null, immutable: null };
      writeWhole(
        document,
        writeCanonical({
          version: identityVersion,
          name,
          generation: 0,
          previous: null,
          owners: keys,
          stop: keys,
          ...rest,
        }),
      );
    }
    const identity = new Uint8Array(readFileSync(document));
    return new DevelopmentOwners(state, key, identity, (await readIdentity(identity)).hash);
  }

  /** A release of this image: the newest one if it is of it and goes on for a day, otherwise the next. */
  async release(manifest: Uint8Array, description: string, now: number): Promise<DevelopmentRelease> {
    const path = join(this.#state, "owner", "release.json");
    const before = existsSync(path) ? await readStatement("release", readFile(path)) : undefined;
    const subjects = [hash("sha256", manifest), description];
    const same = before?.subjects.join() === subjects.join() && before.predicate.expires - now > day;
    let release = before;
    if (!same) {
      const unsigned = writeStatement("release", subjects, {
        app: this.id,
        generation: 0,
        release: (before?.predicate.release ?? 0) + 1,
        previous: before?.hash ?? null,
        minimum: 1,
        notBefore: written(now - day),
        expires: written(now + 30 * day),
        notes: "development",
      });
      release = await readStatement("release", this.#signed(unsigned));
      writeWhole(path, JSON.stringify(writeEnvelope(release.envelope)));
    }
    const bundle = writeBundle({
      identity: this.identity,
      generations: [],
      release: release!.envelope,
      rebuilds: [],
      revocations: [],
      manifest,
    });
    return { number: release!.predicate.release, bundle };
  }

  /** The next set of secrets of these names, sealed to the KMS. */
  async secrets(names: readonly string[], key: SealingKeyDocument, now: number): Promise<Envelope> {
    const path = join(this.#state, "owner", "secrets.json");
    const before = existsSync(path) ? await readSecretsDocument(readFile(path)) : undefined;
    const continues = before?.document.kms === key.kms;
    const number = continues ? before.document.number + 1 : 1;
    const about = { app: this.id, kms: key.kms, keyVersion: key.keyVersion, number };
    const entries = names.map((name) => {
      const { enc, ciphertext } = seal(
        Uint8Array.fromHex(key.key),
        this.#value(name),
        sealBinding(about, name),
      );
      return [name, { enc: toHex(enc), ciphertext: toHex(ciphertext) }] as const;
    });
    const envelope = this.#signed(
      writeSecrets({
        ...about,
        previous: continues ? before.hash : null,
        minimumRelease: 1,
        expires: written(now + 30 * day),
        entries: Object.fromEntries(entries),
      }),
    );
    writeWhole(path, JSON.stringify(writeEnvelope(envelope)));
    return envelope;
  }

  /** What a secret is in development: the file of its name, made up once where there is none. */
  #value(name: string): Uint8Array {
    const directory = join(this.#state, "secrets");
    makeDirectory(directory, 0o700);
    const path = join(directory, name);
    if (!existsSync(path)) writeWhole(path, randomBytes(16).toString("hex"));
    return new Uint8Array(readFileSync(path));
  }

  #signed(unsigned: Pick<Envelope, "payload" | "payloadType">): Envelope {
    return { ...unsigned, signatures: [new Uint8Array(sign(null, signedBytes(unsigned), this.#key))] };
  }
}

const readFile = (path: string): Envelope => readEnvelope(JSON.parse(readFileSync(path, "utf8")));

/** Writes a whole file or none, for its owner alone. */
function writeWhole(path: string, content: string | Uint8Array): void {
  writeFileSync(`${path}.new`, content, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}
