// SPDX-License-Identifier: Apache-2.0
/**
 * Whether a server's certificate chain is good, apart from the date.
 *
 * Why not leave it to TLS: at boot the local clock is the host's word, so a certificate's validity cannot be judged
 * when it arrives. OpenSSL judges it nevertheless, and reports one error per chain; when it reports "expired", an
 * untrusted issuer or a leaf that signed another leaf may hide behind it. Node has no switch for "check all but the
 * date". So everything but the date is decided here, always, whatever the local clock says; OpenSSL's verdict is
 * taken in addition, and only its two date errors are put off (`deferrable`). The date is decided afterwards, for
 * every certificate of the chain, root included, by `agreement.ts` at the time that the operators agree on.
 *
 * The chain rules are the part of RFC 5280, section 6.1, that servers need, and stricter: names chain byte by byte,
 * signatures verify, issuers are CAs within their path length and may sign certificates, the leaf is for TLS
 * servers, and a critical extension that is not decided here (name constraints among them) is refused. There is no
 * revocation check: a client without time cannot judge a CRL; the build epoch bounds how old a stolen key may be.
 */

import { X509Certificate } from "node:crypto";
import { messageOf } from "@caisson/vocabulary/failure";
import { NtsError } from "./errors.ts";

/** OpenSSL's verdicts that the agreed time decides instead. */
export const deferrable: ReadonlySet<string> = new Set(["CERT_HAS_EXPIRED", "CERT_NOT_YET_VALID"]);

/** Leaf, intermediates, root: no public chain is longer than four. */
const maxChain = 6;

/** Signature algorithms of the Web PKI; no SHA-1, no MD5 (OpenSSL's own check may be hidden behind a date error). */
const strongSignatures = new Set([
  "1.2.840.10045.4.3.2", // ecdsa-with-SHA256
  "1.2.840.10045.4.3.3", // ecdsa-with-SHA384
  "1.2.840.10045.4.3.4", // ecdsa-with-SHA512
  "1.2.840.113549.1.1.10", // RSASSA-PSS
  "1.2.840.113549.1.1.11", // sha256WithRSAEncryption
  "1.2.840.113549.1.1.12", // sha384WithRSAEncryption
  "1.2.840.113549.1.1.13", // sha512WithRSAEncryption
  "1.3.101.112", // Ed25519
]);

/** A chain that is good but for the date. */
export interface Chain {
  subject: string;
  issuer: string;
  /** SHA-256 of the leaf, lower-case hex. */
  fingerprint: string;
  /** The time, in Unix milliseconds, during which every certificate of the chain is valid. */
  notBefore: number;
  notAfter: number;
}

/** Certificates of a PEM text. Throws `nts/configuration` when there is none or one cannot be read. */
export function parseRoots(pem: string): X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0) throw new NtsError("nts/configuration", "no PEM certificate among the CA roots");
  return blocks.map((block) => {
    try {
      return new X509Certificate(block);
    } catch {
      throw new NtsError("nts/configuration", "a CA root is not a readable certificate");
    }
  });
}

/**
 * Follows `presented` (leaf first, the rest in any order) up to one of `roots` for a server called `name`.
 * Throws NtsError `certificate/…` with the certificate that is at fault.
 */
export function verifyChain(
  presented: readonly X509Certificate[],
  roots: readonly X509Certificate[],
  name: string,
): Chain {
  const leaf = presented[0];
  if (leaf === undefined) throw new NtsError("certificate/untrusted", "the server showed no certificate");
  try {
    const path = buildPath(leaf, presented.slice(1), roots);
    checkLeaf(leaf, name);
    path.forEach((certificate, depth) => {
      if (depth > 0) checkIssuer(certificate, depth - 1);
      if (depth < path.length - 1) checkStrength(certificate);
    });
    return {
      subject: subjectOf(leaf),
      issuer: oneLine(leaf.issuer),
      fingerprint: leaf.fingerprint256.replaceAll(":", "").toLowerCase(),
      notBefore: Math.max(...path.map((certificate) => certificate.validFromDate.getTime())),
      notAfter: Math.min(...path.map((certificate) => certificate.validToDate.getTime())),
    };
  } catch (error) {
    if (error instanceof NtsError) throw error;
    // Node decodes keys and names when they are asked for, and then throws what OpenSSL says.
    throw new NtsError("certificate/malformed", `a certificate that ${name} showed cannot be decoded`, {
      facts: [["cause", String(messageOf(error))]],
    });
  }
}

/**
 * Leaf to root. A certificate is followed only when its signature verifies, so wrong turns cannot be forced;
 * `checkIssued` compares names and key identifiers, and refuses issuers whose key usage lacks keyCertSign.
 */
function buildPath(
  leaf: X509Certificate,
  others: readonly X509Certificate[],
  roots: readonly X509Certificate[],
): X509Certificate[] {
  const path = [leaf];
  while (path.length < maxChain) {
    const top = path.at(-1)!;
    if (path.length > 1 && roots.some((root) => root.raw.equals(top.raw))) return path;
    const signs = (issuer: X509Certificate) => top.checkIssued(issuer) && top.verify(issuer.publicKey);
    const root = roots.find(signs);
    if (root !== undefined) return [...path, root];
    const next = others.find((other) => !path.some((used) => used.raw.equals(other.raw)) && signs(other));
    if (next === undefined) break;
    path.push(next);
  }
  throw new NtsError("certificate/untrusted", "the certificate does not lead to a configured CA root", {
    facts: [
      ["subject", subjectOf(path.at(-1)!)],
      ["issuer", oneLine(path.at(-1)!.issuer)],
    ],
  });
}

function checkLeaf(leaf: X509Certificate, name: string): void {
  if (leaf.checkHost(name, { subject: "never" }) === undefined) {
    throw new NtsError("certificate/name", `the certificate is not for ${name}`, {
      facts: [["names", leaf.subjectAltName ?? "none"]],
    });
  }
  const { usages, keyUsage } = extensions(leaf);
  if (usages !== undefined && !usages.includes(oid.serverAuth)) {
    throw new NtsError("certificate/purpose", "the certificate is not for TLS servers");
  }
  if (keyUsage !== undefined && (keyUsage & digitalSignature) === 0) {
    throw new NtsError("certificate/purpose", "the certificate's key may not sign");
  }
}

function checkIssuer(issuer: X509Certificate, intermediatesBelow: number): void {
  const { authority, pathLength, usages } = extensions(issuer);
  const subject = subjectOf(issuer);
  if (!authority) throw new NtsError("certificate/purpose", `${subject} is not a certificate authority`);
  if (usages !== undefined && !usages.includes(oid.serverAuth) && !usages.includes(oid.anyUsage)) {
    throw new NtsError("certificate/purpose", `${subject} may not sign for TLS servers`);
  }
  if (pathLength !== undefined && pathLength < intermediatesBelow) {
    throw new NtsError("certificate/purpose", `${subject} allows ${pathLength} intermediate authorities`);
  }
}

/** Not for roots: they are trusted as they are configured. */
function checkStrength(certificate: X509Certificate): void {
  const subject = subjectOf(certificate);
  const algorithm = certificate.signatureAlgorithmOid;
  if (algorithm === undefined || !strongSignatures.has(algorithm)) {
    throw new NtsError(
      "certificate/weak",
      `${subject} is signed with ${certificate.signatureAlgorithm ?? algorithm}`,
    );
  }
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = certificate.publicKey;
  const strong =
    ((type === "rsa" || type === "rsa-pss") && (details?.modulusLength ?? 0) >= 2048) ||
    (type === "ec" && ["prime256v1", "secp384r1", "secp521r1"].includes(details?.namedCurve ?? "")) ||
    type === "ed25519";
  if (!strong) throw new NtsError("certificate/weak", `${subject} has a weak ${type} key`);
}

const oid = {
  subjectAltName: "551d11",
  keyUsage: "551d0f",
  basicConstraints: "551d13",
  certificatePolicies: "551d20",
  nameConstraints: "551d1e",
  extendedKeyUsage: "551d25",
  serverAuth: "2b06010505070301",
  anyUsage: "551d2500",
};
const decided = new Set([
  oid.subjectAltName,
  oid.keyUsage,
  oid.basicConstraints,
  oid.certificatePolicies,
  oid.extendedKeyUsage,
]);
/** KeyUsage bit as it lies in the first octet (RFC 5280, section 4.2.1.3). */
const digitalSignature = 0x80;

interface Extensions {
  authority: boolean;
  pathLength?: number;
  keyUsage?: number;
  usages?: string[];
}

/** Bytes that are not the DER of a certificate. Who knows which certificate it is makes an NtsError of it. */
class DerError extends Error {}

interface Element {
  tag: number;
  value: Uint8Array;
}

/** The elements that stand one behind the other in `bytes`; no length is trusted. Throws DerError. */
function elements(bytes: Uint8Array): Element[] {
  const found: Element[] = [];
  for (let at = 0; at < bytes.length; ) {
    const tag = bytes[at]!;
    let length = bytes[at + 1] ?? 0xff;
    at += 2;
    if (length >= 0x80) {
      const octets = length & 0x7f;
      if (octets === 0 || octets > 3 || at + octets > bytes.length) throw new DerError();
      length = bytes.subarray(at, at + octets).reduce((sum, byte) => sum * 256 + byte, 0);
      at += octets;
    }
    if (at + length > bytes.length) throw new DerError();
    found.push({ tag, value: bytes.subarray(at, at + length) });
    at += length;
  }
  return found;
}

/** Content of the one element that `bytes` are. Throws DerError. */
function only(bytes: Uint8Array, tag: number): Uint8Array {
  const [first, ...rest] = elements(bytes);
  if (first?.tag !== tag || rest.length > 0) throw new DerError();
  return first.value;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** A certificate's extensions, each once (RFC 5280, section 4.2). Throws DerError. */
function* extensionsIn(
  certificate: Uint8Array,
): Generator<{ id: string; critical: boolean; value: Uint8Array }> {
  const tbs = elements(only(certificate, 0x30))[0];
  if (tbs?.tag !== 0x30) throw new DerError();
  const wrapped = elements(tbs.value).find((element) => element.tag === 0xa3);
  if (wrapped === undefined) return;
  const seen = new Set<string>();
  for (const { value: extension } of elements(only(wrapped.value, 0x30))) {
    const parts = elements(extension);
    const [first, last] = [parts[0], parts.at(-1)];
    if (first === undefined || last === undefined) throw new DerError();
    const id = hex(first.value);
    if (seen.has(id)) throw new DerError();
    seen.add(id);
    yield { id, critical: parts.length === 3 && parts[1]!.value[0] !== 0, value: last.value };
  }
}

/**
 * The extensions that Node does not show. OpenSSL has parsed the certificate before, so the DER is well formed as a
 * whole; the reader above still trusts no length. Throws NtsError `certificate/malformed`, `certificate/purpose`.
 */
function extensions(certificate: X509Certificate): Extensions {
  const result: Extensions = { authority: false };
  try {
    for (const { id, critical, value } of extensionsIn(certificate.raw)) {
      if (id === oid.basicConstraints) {
        const [first, second] = elements(only(value, 0x30));
        result.authority = first?.tag === 0x01 && first.value[0] === 0xff;
        if (second?.tag === 0x02) result.pathLength = second.value.reduce((sum, byte) => sum * 256 + byte, 0);
      } else if (id === oid.keyUsage) {
        result.keyUsage = only(value, 0x03)[1] ?? 0;
      } else if (id === oid.extendedKeyUsage) {
        result.usages = elements(only(value, 0x30)).map((element) => hex(element.value));
      } else if (id === oid.nameConstraints || (critical && !decided.has(id))) {
        throw new NtsError(
          "certificate/purpose",
          `${subjectOf(certificate)} has an extension that is not handled`,
          { facts: [["object identifier", `${id} (DER, hex)`]] },
        );
      }
    }
  } catch (error) {
    if (!(error instanceof DerError)) throw error;
    throw new NtsError("certificate/malformed", `${subjectOf(certificate)} cannot be read`);
  }
  return result;
}

/** Node shows an empty name, which is allowed beside alternative names, as undefined; its types do not say so. */
const oneLine = (name: string | undefined) => (name ?? "no name").split("\n").join(", ");
const subjectOf = (certificate: X509Certificate) =>
  oneLine(certificate.subject ?? certificate.subjectAltName);
