// SPDX-License-Identifier: Apache-2.0
/**
 * X.509 certificates (RFC 5280), narrowed to what hierarchies that verifiers trust need: version 3, keys and signatures
 * of the one kind that a `Profile` names. Anything else is refused rather than skipped. Nothing is verified here: chain.ts.
 */

import { fromUtf8, toHex } from "@caisson/vocabulary/bytes";
import { VerifyError } from "../errors.ts";
import { type Der, DerReader, tag } from "./der.ts";
import { oids } from "./oids.ts";

/** Bits of the KeyUsage extension (RFC 5280, 4.2.1.3) in the order of `DerReader.namedBits`. */
export const keyUsage = { digitalSignature: 0x8000, keyCertSign: 0x0400, crlSign: 0x0200 } as const;

/** What a vendor's certificates have in common: the one algorithm, the one kind of key, what must and may be in them. */
export interface Profile {
  /** Reads AlgorithmIdentifier; throws VerifyError "certificate/malformed" for any other than the one. */
  readonly algorithm: (reader: DerReader) => void;
  readonly signature: (reader: DerReader) => Uint8Array;
  /** Reads the content of SubjectPublicKeyInfo, `encoding` being all of it. */
  readonly key: (info: DerReader, encoding: Uint8Array) => Uint8Array;
  /** Whether a serial number may be zero (RFC 5280, 4.1.2.2, says that it must not). */
  readonly zeroSerial?: true;
  /** Whether key usages may end in zeros, which DER leaves out (X.690, 11.2.2). */
  readonly trailingZeros?: true;
}

/** A parsed certificate; nothing about it is verified yet. Times in milliseconds since 1970. */
export interface Certificate {
  readonly encoding: Uint8Array;
  /** The signed part. */
  readonly tbs: Uint8Array;
  /** As the profile reads it: of P-256 r ‖ s, 64 bytes. */
  readonly signature: Uint8Array;
  /** Hexadecimal, without sign byte. */
  readonly serial: string;
  /** Names as encoded; they are compared byte for byte. */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  readonly commonName: string;
  readonly notBefore: number;
  readonly notAfter: number;
  /** As the profile reads it: of P-256 the uncompressed point, 65 bytes. */
  readonly publicKey: Uint8Array;
  readonly keyUsage: number;
  readonly ca: boolean;
  readonly pathLength: number | undefined;
  readonly subjectKeyId: Uint8Array | undefined;
  readonly authorityKeyId: Uint8Array | undefined;
  /** All extensions by OID: the content of their OCTET STRING. The critical ones are those that are read above. */
  readonly extensions: ReadonlyMap<string, Uint8Array>;
}

/** ECDSA over one curve with one hash; `size`: bytes of a coordinate. */
interface Ecdsa {
  readonly name: string;
  readonly curve: string;
  readonly algorithm: string;
  readonly size: number;
}

function ecdsaProfile({ name, curve, algorithm: expected, size }: Ecdsa): Profile {
  return {
    // There are no parameters (RFC 5758, 3.2).
    algorithm(reader) {
      const algorithm = reader.enter(tag.sequence);
      const actual = algorithm.oid();
      algorithm.end();
      if (actual === expected) return;
      throw new VerifyError("certificate/malformed", `the signature algorithm is not ${name}`, {
        expected,
        actual,
      });
    },
    // In DER (RFC 3279, 2.2.3); as r ‖ s here.
    signature(reader) {
      const outer = new DerReader(reader.bitString());
      const pair = outer.enter(tag.sequence);
      outer.end();
      const [r, s] = [pair.unsigned(), pair.unsigned()];
      pair.end();
      if (r.length > size || s.length > size) {
        throw new VerifyError("der/malformed", `a signature of ${name} has numbers of at most ${size} bytes`);
      }
      const signature = new Uint8Array(2 * size);
      signature.set(r, size - r.length);
      signature.set(s, 2 * size - s.length);
      return signature;
    },
    // SubjectPublicKeyInfo in uncompressed form (RFC 5480).
    key(info) {
      const algorithm = info.enter(tag.sequence);
      const named = algorithm.oid() === oids.ecPublicKey ? algorithm.oid() : undefined;
      if (named === curve) {
        algorithm.end();
        const point = info.bitString();
        info.end();
        if (point.length === 1 + 2 * size && point[0] === 4) return point;
      }
      throw new VerifyError("chain/key", `a certificate's key is not an uncompressed point of ${name}`);
    },
  };
}

/** The usual one here. */
export const p256Profile = ecdsaProfile({
  name: "P-256 with SHA-256",
  curve: oids.p256,
  algorithm: oids.ecdsaSha256,
  size: 32,
});
export const p384Profile = ecdsaProfile({
  name: "P-384 with SHA-384",
  curve: oids.p384,
  algorithm: oids.ecdsaSha384,
  size: 48,
});

/** Names are plain ASCII, of at most 64 characters (RFC 5280, ub-common-name); reports show them as they are. */
const plainName = /^[\x20-\x7e]{1,64}$/;

/** The one common name of a Name; every RDN holds exactly one attribute. */
function readCommonName(name: Der): string {
  const rdns = name.enter();
  let commonName: string | undefined;
  while (rdns.more) {
    const rdn = rdns.enter(tag.set);
    const attribute = rdn.enter(tag.sequence);
    rdn.end();
    const type = attribute.oid();
    const value = attribute.any();
    attribute.end();
    if (value.tag !== tag.utf8String && value.tag !== tag.printableString) {
      throw new VerifyError("certificate/malformed", "a name holds something else than text");
    }
    if (type === oids.commonName) {
      if (commonName !== undefined)
        throw new VerifyError("certificate/malformed", "a name has two common names");
      commonName = fromUtf8(value.content);
    }
  }
  if (commonName === undefined || !plainName.test(commonName)) {
    throw new VerifyError("certificate/malformed", "a name has no common name of 1 to 64 ASCII characters");
  }
  return commonName;
}

/** One extension: its OID, whether it is critical, and its OCTET STRING, which of most is never looked into. */
export interface Extension {
  oid: string;
  critical: boolean;
  value: Der;
}

/** Reads Extensions; none may occur twice (RFC 5280, 4.2). */
export function readExtensions(reader: DerReader): Extension[] {
  const sequence = reader.enter(tag.sequence);
  const found: Extension[] = [];
  do {
    const extension = sequence.enter(tag.sequence);
    const oid = extension.oid();
    // DEFAULT FALSE: an encoded FALSE is not DER (X.690, 11.5).
    const critical = extension.nextTag === tag.boolean ? extension.boolean() : undefined;
    const value = extension.read(tag.octetString);
    extension.end();
    if (critical === false || found.some((other) => other.oid === oid)) {
      throw new VerifyError("chain/extension", "an extension occurs twice, or encodes its default", {
        actual: oid,
      });
    }
    found.push({ oid, critical: critical === true, value });
  } while (sequence.more);
  return found;
}

/** The keyIdentifier of an AuthorityKeyIdentifier extension (RFC 5280, 4.2.1.1). */
export function readAuthorityKeyId(value: DerReader): Uint8Array | undefined {
  const sequence = value.enter(tag.sequence);
  value.end();
  const id = sequence.nextTag === 0x80 ? sequence.content(0x80) : undefined;
  sequence.end();
  return id;
}

/** Reads one certificate. Throws VerifyError "der/malformed", "certificate/malformed" or "chain/extension". */
export function parseCertificate(encoding: Uint8Array, profile: Profile = p256Profile): Certificate {
  const outer = new DerReader(encoding);
  const certificate = outer.enter(tag.sequence);
  outer.end();
  const signed = certificate.read(tag.sequence);
  profile.algorithm(certificate);
  const signature = profile.signature(certificate);
  certificate.end();

  const tbs = signed.enter();
  const version = tbs.enter(0xa0);
  if (version.number(2) !== 2)
    throw new VerifyError("certificate/malformed", "this is not an X.509 version 3");
  version.end();
  const serial = tbs.unsigned();
  if (serial.length > 20 || (serial.length === 1 && serial[0] === 0 && !profile.zeroSerial)) {
    throw new VerifyError("certificate/malformed", "a serial number has 1 to 20 bytes and is not zero");
  }
  profile.algorithm(tbs);
  const issuer = tbs.read(tag.sequence);
  const validity = tbs.enter(tag.sequence);
  const [notBefore, notAfter] = [validity.time(), validity.time()];
  validity.end();
  const subject = tbs.read(tag.sequence);
  const info = tbs.read(tag.sequence);
  const publicKey = profile.key(info.enter(), info.encoding);
  const wrapper = tbs.enter(0xa3);
  const extensions = readExtensions(wrapper);
  wrapper.end();
  tbs.end();
  readCommonName(issuer);
  return {
    encoding,
    tbs: signed.encoding,
    signature,
    serial: toHex(serial),
    issuer: issuer.encoding,
    subject: subject.encoding,
    commonName: readCommonName(subject),
    notBefore,
    notAfter,
    publicKey,
    ...interpretExtensions(extensions, profile),
  };
}

function interpretExtensions(extensions: readonly Extension[], profile: Profile) {
  const result = {
    keyUsage: 0,
    ca: false,
    pathLength: undefined as number | undefined,
    subjectKeyId: undefined as Uint8Array | undefined,
    authorityKeyId: undefined as Uint8Array | undefined,
    extensions: new Map<string, Uint8Array>(),
  };
  for (const { oid, critical, value } of extensions) {
    result.extensions.set(oid, value.content);
    const reader = value.enter();
    if (oid === oids.keyUsage) {
      result.keyUsage = reader.namedBits(profile.trailingZeros);
      reader.end();
    } else if (oid === oids.basicConstraints) {
      const constraints = reader.enter(tag.sequence);
      reader.end();
      if (constraints.nextTag === tag.boolean) {
        result.ca = constraints.boolean();
        if (!result.ca) throw new VerifyError("chain/extension", "basic constraints encode their default");
      }
      if (constraints.more) result.pathLength = constraints.number(255);
      constraints.end();
      if (result.pathLength !== undefined && !result.ca) {
        throw new VerifyError("chain/constraints", "a path length without being a CA");
      }
    } else if (oid === oids.subjectKeyIdentifier) {
      result.subjectKeyId = reader.content(tag.octetString);
      reader.end();
    } else if (oid === oids.authorityKeyIdentifier) {
      result.authorityKeyId = readAuthorityKeyId(reader);
    } else if (critical) {
      throw new VerifyError("chain/extension", "an unknown extension is critical", { actual: oid });
    }
  }
  return result;
}
