// SPDX-License-Identifier: Apache-2.0
/** Everything that the owners of one application sign, in good order; tests and benchmarks change any of it. */
import { createHash } from "node:crypto";
import { frame } from "@caisson/vocabulary/frame";
import type { Bundle } from "../bundle.ts";
import { writeCanonical } from "../canonical.ts";
import type { Envelope } from "../envelope.ts";
import { type IdentityDocument, identityPayloadType } from "../identity.ts";
import { writeSecrets } from "../secrets.ts";
import { writeStatement } from "../statement.ts";
import { type Signer, signedBy, signer } from "./signers.ts";

const day = 24 * 3600 * 1000;
const writtenTime = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;
export const hashOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

export const keysOf = (threshold: number, ...signers: readonly Signer[]) => ({
  threshold,
  keys: signers.map(({ publicKey }) => publicKey),
});

/** Owners a, b and c, of whom two sign; `stop` stops. `now`: the time (ms) around which all is valid. */
export class Owners {
  readonly now: number;
  readonly a: Signer;
  readonly b: Signer;
  readonly c: Signer;
  readonly stop: Signer;
  readonly document: IdentityDocument;
  readonly first: Uint8Array;
  /** Hex. */
  readonly id: string;

  constructor(now: number, name = "payments", changes: Partial<IdentityDocument> = {}) {
    this.now = now;
    this.a = signer(`${name} a`);
    this.b = signer(`${name} b`, "p256");
    this.c = signer(`${name} c`);
    this.stop = signer(`${name} stop`);
    this.document = {
      version: "caisson/identity/v1",
      name,
      generation: 0,
      previous: null,
      owners: keysOf(2, this.a, this.b, this.c),
      stop: keysOf(1, this.stop),
      rebuild: null,
      secrets: null,
      log: null,
      immutable: null,
      ...changes,
    };
    this.first = writeCanonical(this.document);
    this.id = hashOf(frame("caisson/identity/v1", this.first));
  }

  /** The next generation after that of `previous` (bytes), signed by all three. */
  rotation(changes: Partial<IdentityDocument>, previous = this.first): Envelope {
    const before = JSON.parse(new TextDecoder().decode(previous)) as IdentityDocument;
    const payload = writeCanonical({
      ...before,
      generation: before.generation + 1,
      previous: hashOf(frame("caisson/identity/v1", previous)),
      ...changes,
    });
    return signedBy({ payload, payloadType: identityPayloadType }, this.a, this.b, this.c);
  }

  /** A release of an image (hash of its manifest) with a description (its hash). */
  release(
    [manifest, description]: readonly [string, string],
    changes: object = {},
    by: readonly Signer[] = [this.a, this.b],
  ): Envelope {
    const unsigned = writeStatement("release", [manifest, description], {
      app: this.id,
      generation: 0,
      release: 1,
      previous: null,
      minimum: 1,
      notBefore: writtenTime(this.now - day),
      expires: writtenTime(this.now + 90 * day),
      notes: "",
      ...changes,
    });
    return signedBy(unsigned, ...by);
  }

  revocation(releases: number[], generations: number[] = [], by = this.stop): Envelope {
    const what = { app: this.id, releases, generations, reason: "test" };
    return signedBy(writeStatement("revocation", [this.id], what), by);
  }

  rebuild(release: Envelope, manifest: string, by: Signer): Envelope {
    const unsigned = writeStatement("rebuild", [manifest], {
      app: this.id,
      release: hashOf(release.payload),
      lock: "01".repeat(32),
      toolchain: "02".repeat(32),
      caisson: "0.1.0",
      system: "Debian 13",
      finished: writtenTime(this.now),
    });
    return signedBy(unsigned, by);
  }

  /** Secrets whose entries are sealed already. */
  secrets(
    kms: string,
    entries: Record<string, { enc: string; ciphertext: string }>,
    changes: object = {},
    by: readonly Signer[] = [this.a, this.c],
  ): Envelope {
    const unsigned = writeSecrets({
      app: this.id,
      kms,
      keyVersion: 1,
      number: 1,
      previous: null,
      minimumRelease: 1,
      expires: writtenTime(this.now + 90 * day),
      entries,
      ...changes,
    });
    return signedBy(unsigned, ...by);
  }

  bundle(release: Envelope, manifest?: Uint8Array, changes: Partial<Bundle> = {}): Bundle {
    return {
      identity: this.first,
      generations: [],
      release,
      rebuilds: [],
      revocations: [],
      ...(manifest !== undefined && { manifest }),
      ...changes,
    };
  }
}
