// SPDX-License-Identifier: Apache-2.0
/**
 * X.509 certificates (RFC 5280), narrowed to what hierarchies that verifiers trust need: version 3, P-256 keys, ECDSA
 * with SHA-256. Anything else is refused rather than skipped. What one vendor's certificates must hold is said by the
 * `Role`s of its room.
 */

import { equal, fromBase64, fromUtf8, toHex } from "@caisson/vocabulary/bytes";
import { Recent } from "@caisson/vocabulary/recent";
import type { PublicKey } from "#crypto";
import { type CheckCode, VerifyError } from "../errors.ts";
import { type Der, DerReader, tag } from "./der.ts";
import { oids } from "./oids.ts";
import { authorities, isSignedBy, keyOfPoint, type Signatures } from "./remembered.ts";

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

/** What is trusted: one key by value. `rootKey`: uncompressed P-256 point, 65 bytes. */
export interface TrustAnchor {
  readonly name: string;
  readonly rootKey: Uint8Array;
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

const pemBlock =
  /^-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=\r\n]+?)\r?\n?-----END CERTIFICATE-----(?:\r?\n)*/;

/**
 * P-256 certificates by what their PEM block contains. Those above the platforms come again with every verification, so that
 * reading them is remembered too; it would cost a fifth of what is not a signature check.
 */
const read = new Recent<Certificate>();

/**
 * Certificates of a PEM text (RFC 7468), leaf first, at most four. One NUL may end it, as in quotes.
 * @throws VerifyError "pem/malformed" for anything beside the blocks
 */
export function parsePemChain(pem: string): Certificate[] {
  return pemBlocks(pem.endsWith("\0") ? pem.slice(0, -1) : pem, (content, der) => {
    const known = read.get(content);
    if (known !== undefined) return known;
    const certificate = parseCertificate(der());
    read.set(content, certificate);
    return certificate;
  });
}

/** DER of the certificates of a PEM text, at most four. Throws VerifyError "pem/malformed". */
export const pemToDer = (pem: string): Uint8Array[] => pemBlocks(pem, (_, der) => der());

function pemBlocks<T>(pem: string, each: (content: string, der: () => Uint8Array) => T): T[] {
  const found: T[] = [];
  const malformed = () =>
    new VerifyError("pem/malformed", "a certificate chain is not a list of PEM certificates", {
      where: `after ${found.length} certificates`,
    });
  let rest = pem;
  while (rest !== "") {
    const block = found.length < 4 ? pemBlock.exec(rest) : null;
    const content = block?.[1];
    if (block === null || content === undefined) throw malformed();
    const der = () => {
      const bytes = fromBase64(content.replace(/[\r\n]+/g, ""));
      if (bytes === undefined) throw malformed();
      return bytes;
    };
    found.push(each(content, der));
    rest = rest.slice(block[0].length);
  }
  return found;
}

/** What a certificate in a given place must be. */
export interface Role {
  /** Accepted common names. */
  readonly names: readonly string[];
  readonly ca: boolean;
  readonly pathLength?: number;
  readonly keyUsage: number;
  /** OIDs of the extensions that it must have. */
  readonly extensions: readonly string[];
  /** Every platform has one of its own, so that its signature is not worth remembering. */
  readonly ofOnePlatform?: boolean;
}

export const certSigner = keyUsage.keyCertSign | keyUsage.crlSign;

/** Refuses a certificate that is not what its place in the chain asks for. */
export function checkRole(certificate: Certificate, role: Role): void {
  const where = certificate.commonName;
  for (const expected of role.extensions) {
    if (!certificate.extensions.has(expected))
      throw new VerifyError("chain/extension", "an extension is missing", { where, expected });
  }
  if (!role.names.includes(certificate.commonName)) {
    throw new VerifyError(
      "chain/name",
      "a certificate has another name than its place in the chain asks for",
      {
        expected: role.names.join(" or "),
        actual: certificate.commonName,
      },
    );
  }
  if (certificate.ca !== role.ca || certificate.pathLength !== role.pathLength) {
    throw new VerifyError(
      "chain/constraints",
      "a certificate's basic constraints are not those of its role",
      {
        where,
        expected: `CA ${role.ca}, path length ${role.pathLength ?? "none"}`,
        actual: `CA ${certificate.ca}, path length ${certificate.pathLength ?? "none"}`,
      },
    );
  }
  if (
    (certificate.keyUsage & role.keyUsage) !== role.keyUsage ||
    (!role.ca && certificate.keyUsage & certSigner)
  ) {
    throw new VerifyError("chain/key-usage", "a certificate's key may not be used as its role asks for", {
      where,
    });
  }
}

/** Refuses what is not valid at `now`. `codes`: not yet valid, expired. */
export function checkWindow(
  what: string,
  window: { notBefore: number; notAfter: number },
  now: number,
  [tooEarly, tooLate]: readonly [CheckCode, CheckCode],
): void {
  if (now >= window.notBefore && now <= window.notAfter) return;
  const iso = (ms: number) => new Date(ms).toISOString();
  const early = now < window.notBefore;
  throw new VerifyError(early ? tooEarly : tooLate, `${what} ${early ? "is not valid yet" : "has expired"}`, {
    expected: `${iso(window.notBefore)} to ${iso(window.notAfter)}`,
    actual: iso(now),
  });
}

/** Codes of a certificate outside its validity. */
export const certificateWindow = ["chain/not-yet-valid", "chain/expired"] as const;

/** The key of a verified certificate, ready for use. Throws VerifyError "chain/key". */
export async function keyOf(certificate: Certificate): Promise<PublicKey> {
  const key = await keyOfPoint(certificate.publicKey);
  if (key === undefined) {
    throw new VerifyError("chain/key", "a certificate's key is not a point of P-256", {
      where: certificate.commonName,
    });
  }
  return key;
}

/** A certificate whose issuer, role, validity and signature were checked. */
export interface Authority {
  readonly certificate: Certificate;
  readonly key: PublicKey;
}

/** Verifies that `issuer` issued `certificate` for `role`, at `now`. `platforms`: signatures on platforms' that are remembered. */
export async function verifyIssued(
  certificate: Certificate,
  issuer: Authority,
  role: Role,
  now: number,
  platforms?: Signatures,
): Promise<Authority> {
  await checkIssued(certificate, issuer, role, now, platforms);
  return { certificate, key: await keyOf(certificate) };
}

async function checkIssued(
  certificate: Certificate,
  issuer: Authority,
  role: Role,
  now: number,
  platforms?: Signatures,
): Promise<void> {
  checkRole(certificate, role);
  if (!equal(certificate.issuer, issuer.certificate.subject)) {
    throw new VerifyError("chain/issuer", "a certificate names another issuer than the next in its chain", {
      where: certificate.commonName,
      expected: issuer.certificate.commonName,
    });
  }
  const { authorityKeyId } = certificate;
  const { subjectKeyId } = issuer.certificate;
  if (authorityKeyId === undefined || subjectKeyId === undefined || !equal(authorityKeyId, subjectKeyId)) {
    throw new VerifyError(
      "chain/issuer",
      "a certificate names another issuer key than the next in its chain",
      {
        where: certificate.commonName,
      },
    );
  }
  checkWindow(`the certificate "${certificate.commonName}"`, certificate, now, certificateWindow);
  const { signature, tbs } = certificate;
  const signer = { point: issuer.certificate.publicKey, key: issuer.key };
  if (!(await isSignedBy(signer, signature, tbs, role.ofOnePlatform === true ? platforms : authorities))) {
    throw new VerifyError("chain/signature", "a certificate's signature is not its issuer's", {
      where: certificate.commonName,
    });
  }
}

/** Verifies the root: the pinned key, and its own signature over its name, constraints and validity. */
export async function verifyRoot(
  certificate: Certificate,
  trust: TrustAnchor,
  role: Role,
  now: number,
): Promise<Authority> {
  if (!equal(certificate.publicKey, trust.rootKey)) {
    throw new VerifyError("chain/untrusted-root", "the chain ends at a root that is not trusted", {
      expected: `${trust.name}, ${toHex(trust.rootKey)}`,
      actual: `${certificate.commonName}, ${toHex(certificate.publicKey)}`,
    });
  }
  const root = { certificate, key: await keyOf(certificate) };
  await checkIssued(certificate, root, role, now);
  return root;
}
