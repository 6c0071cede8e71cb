// SPDX-License-Identifier: Apache-2.0
/**
 * Collateral: what Intel publishes about platforms, quoting enclaves and revocations, and how it is verified.
 *
 * Verified collateral is an object of a class that only this file can make, so that it may be kept and used for many
 * quotes; what depends on the time (every validity window) is checked again at each use.
 */

import { equal, fromHex } from "@caisson/vocabulary/bytes";
import { Recent } from "@caisson/vocabulary/recent";
import {
  hex,
  type Infer,
  object,
  optional,
  type Schema,
  SchemaError,
  text,
} from "@caisson/vocabulary/schema";
import { verifyP256 } from "#crypto";
import { type CheckCode, VerifyError } from "../errors.ts";
import {
  type Authority,
  certificateWindow,
  checkWindow,
  type TrustAnchor,
  verifyIssued,
  verifyRoot,
} from "../pki/chain.ts";
import { type Crl, checkNotRevoked, crlWindow, parseCrl, verifyCrl } from "../pki/crl.ts";
import { parsePemChain } from "../pki/pem.ts";
import type { Certificate } from "../pki/x509.ts";
import { roles } from "./roles.ts";
import { type QeIdentity, qeIdentitySchema, type TcbInfo, tcbInfoSchema, versionedSchema } from "./tcb.ts";

const pem = text("a PEM certificate chain of at most 64 kB", /^-----BEGIN CERTIFICATE-----/, 65536);
const derHex = hex([1, 1 << 20]);
const signedJson = text("a JSON text of at most 1 MiB", /^\{/, 1 << 20);
const signature = hex(64);

export const collateralSchema = object({
  pck_crl_issuer_chain: pem,
  root_ca_crl: derHex,
  pck_crl: derHex,
  tcb_info_issuer_chain: pem,
  tcb_info: signedJson,
  tcb_info_signature: signature,
  qe_identity_issuer_chain: pem,
  qe_identity: signedJson,
  qe_identity_signature: signature,
  /** PCK chain for quotes that carry none of their own. */
  pck_certificate_chain: optional(pem),
});

/**
 * Collateral as PCCS clients write it: chains in PEM (leaf first), CRLs in hexadecimal DER, `tcb_info` and
 * `qe_identity` as the exact JSON text that Intel signed.
 */
export type Collateral = Infer<typeof collateralSchema>;

/** Reads collateral from parsed JSON. Throws VerifyError "collateral/malformed" with the field. */
export function readCollateral(document: unknown): Collateral {
  return interpret(collateralSchema, document, "collateral/malformed", "the collateral");
}

function interpret<T>(schema: Schema<T>, value: unknown, code: CheckCode, what: string): T {
  try {
    return schema(value);
  } catch (error) {
    if (!(error instanceof SchemaError)) throw error;
    throw new VerifyError(code, `${what} is malformed: ${error.message}`, {
      where: error.path || "the whole",
    });
  }
}

interface Window {
  what: string;
  notBefore: number;
  notAfter: number;
  codes: readonly [CheckCode, CheckCode];
}

interface Parts {
  readonly trust: TrustAnchor;
  readonly root: Authority;
  readonly pckCa: Authority;
  readonly rootCrl: Crl;
  readonly pckCrl: Crl;
  readonly tcbInfo: TcbInfo;
  readonly qeIdentity: QeIdentity;
  readonly pckChain: string | undefined;
  readonly windows: readonly Window[];
}

/** Set by the class's static block, so that only `verifyCollateral` can make an instance. */
let seal: (parts: Parts) => VerifiedCollateral;

/** Collateral whose every signature was verified under one root; made by `verifyCollateral` only. */
export class VerifiedCollateral {
  readonly #parts: Parts;

  private constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** The contents, for use at `now` under `trust`; refuses another root, and anything that is not valid then. */
  at(now: number, trust: TrustAnchor): Parts {
    if (!equal(this.#parts.trust.rootKey, trust.rootKey)) {
      throw new VerifyError("chain/untrusted-root", "this collateral was verified under another root", {
        expected: trust.name,
        actual: this.#parts.trust.name,
      });
    }
    for (const window of this.#parts.windows) checkWindow(window.what, window, now, window.codes);
    return this.#parts;
  }

  /** The time at which the first part of it expires, in milliseconds since 1970. */
  get validUntil(): number {
    return Math.min(...this.#parts.windows.map(({ notAfter }) => notAfter));
  }

  static {
    seal = (parts) => new VerifiedCollateral(parts);
  }
}

/** Verifies everything that does not depend on a quote. `now` is the time at which it must be valid. */
export async function verifyCollateral(
  document: Collateral,
  now: Date,
  trust: TrustAnchor,
): Promise<VerifiedCollateral> {
  const collateral = readCollateral(document);
  const at = now.getTime();

  const pckCaChain = parseChain(collateral.pck_crl_issuer_chain, 2, "pck_crl_issuer_chain");
  const root = await verifyRoot(pckCaChain[1]!, trust, roles.root, at);
  const pckCa = await verifyIssued(pckCaChain[0]!, root, roles.pckCa, at);
  const rootCrl = await readCrl(collateral.root_ca_crl, root, at);
  checkNotRevoked(pckCa.certificate, rootCrl);
  const pckCrl = await readCrl(collateral.pck_crl, pckCa, at);

  const tcbChain = parseChain(collateral.tcb_info_issuer_chain, 2, "tcb_info_issuer_chain");
  const tcbSigner = await verifyTcbSigner(tcbChain, root, rootCrl, trust, at);
  // Intel signs both documents with one key, so that the second chain is as a rule the first.
  const sameChain = collateral.qe_identity_issuer_chain === collateral.tcb_info_issuer_chain;
  const qeChain = sameChain
    ? tcbChain
    : parseChain(collateral.qe_identity_issuer_chain, 2, "qe_identity_issuer_chain");
  const qeSigner = sameChain ? tcbSigner : await verifyTcbSigner(qeChain, root, rootCrl, trust, at);

  const tcbInfo = await verifySigned(
    collateral.tcb_info,
    collateral.tcb_info_signature,
    tcbSigner,
    tcbInfoRules,
    at,
  );
  const qeIdentity = await verifySigned(
    collateral.qe_identity,
    collateral.qe_identity_signature,
    qeSigner,
    qeIdentityRules,
    at,
  );

  const certificates = [root.certificate, pckCa.certificate, ...tcbChain, ...qeChain];
  return seal({
    trust,
    root,
    pckCa,
    rootCrl,
    pckCrl,
    tcbInfo,
    qeIdentity,
    pckChain: collateral.pck_certificate_chain,
    windows: [
      ...certificates.map((c) => window(`the certificate "${c.commonName}"`, c, certificateWindow)),
      window("the root CRL", rootCrl, crlWindow),
      window("the PCK CRL", pckCrl, crlWindow),
      window(tcbInfoRules.what, signedWindow(tcbInfo), tcbInfoRules.window),
      window(qeIdentityRules.what, signedWindow(qeIdentity), qeIdentityRules.window),
    ],
  });
}

function window(
  what: string,
  { notBefore, notAfter }: Omit<Window, "what" | "codes">,
  codes: Window["codes"],
) {
  return { what, notBefore, notAfter, codes };
}

function signedWindow({ issueDate, nextUpdate }: { issueDate: number; nextUpdate: number }) {
  return { notBefore: issueDate, notAfter: nextUpdate };
}

/**
 * A chain of exactly `length` certificates, each followed by its issuer. The first of
 * the text is the leaf; the others may come in any order, as they do from some servers.
 */
export function parseChain(text: string, length: number, what: string): Certificate[] {
  const chain = parsePemChain(text);
  if (chain.length !== length) {
    throw new VerifyError("chain/length", "a certificate chain has another length than it must", {
      where: what,
      expected: `${length} certificates`,
      actual: `${chain.length}`,
    });
  }
  return issuersInOrder(chain);
}

/** The same chain with each certificate's issuer behind it, where names tell; else as it is, to be refused by them. */
function issuersInOrder(chain: readonly Certificate[]): Certificate[] {
  const ordered = chain.slice(0, 1);
  const rest = chain.slice(1);
  while (rest.length > 0) {
    const at = rest.findIndex(({ subject }) => equal(subject, ordered.at(-1)!.issuer));
    if (at < 0) return [...chain];
    ordered.push(...rest.splice(at, 1));
  }
  return ordered;
}

/** The root of a further chain: the one that was verified already, or another certificate of the pinned key. */
export async function sameRoot(
  certificate: Certificate,
  verified: Authority,
  trust: TrustAnchor,
  now: number,
): Promise<Authority> {
  return equal(certificate.encoding, verified.certificate.encoding)
    ? verified
    : verifyRoot(certificate, trust, roles.root, now);
}

/**
 * Lists by their text, once somebody known had signed them: reading one is worth keeping, its signature is checked each
 * time.
 */
const lists = new Recent<Crl>();

async function readCrl(text: string, issuer: Authority, now: number): Promise<Crl> {
  const crl = lists.get(text) ?? parseCrl(fromHex(text)!);
  await verifyCrl(crl, issuer, now);
  lists.set(text, crl);
  return crl;
}

async function verifyTcbSigner(
  [signer, root]: readonly Certificate[],
  verifiedRoot: Authority,
  rootCrl: Crl,
  trust: TrustAnchor,
  now: number,
): Promise<Authority> {
  const issuer = await sameRoot(root!, verifiedRoot, trust, now);
  const authority = await verifyIssued(signer!, issuer, roles.tcbSigner, now);
  checkNotRevoked(authority.certificate, rootCrl);
  return authority;
}

/** What a kind of signed document is: its name, its contents, and the codes of its faults. */
interface SignedRules<T> {
  what: string;
  schema: Schema<T>;
  /** What each text says; only signed ones. */
  read: Recent<T>;
  version: number;
  malformed: CheckCode;
  unknownVersion: CheckCode;
  signature: CheckCode;
  window: readonly [CheckCode, CheckCode];
}

const tcbInfoRules: SignedRules<TcbInfo> = {
  what: "the TCB info",
  schema: tcbInfoSchema,
  read: new Recent(),
  version: 3,
  malformed: "tcb-info/malformed",
  unknownVersion: "tcb-info/version",
  signature: "tcb-info/signature",
  window: ["tcb-info/not-yet-valid", "tcb-info/expired"],
};

const qeIdentityRules: SignedRules<QeIdentity> = {
  what: "the QE identity",
  schema: qeIdentitySchema,
  read: new Recent(),
  version: 2,
  malformed: "qe-identity/malformed",
  unknownVersion: "qe-identity/version",
  signature: "qe-identity/signature",
  window: ["qe-identity/not-yet-valid", "qe-identity/expired"],
};

/** Verifies a signature over the exact text, and only then parses the text. */
async function verifySigned<T extends { issueDate: number; nextUpdate: number }>(
  json: string,
  signatureHex: string,
  signer: Authority,
  rules: SignedRules<T>,
  now: number,
): Promise<T> {
  if (!(await verifyP256(signer.key, fromHex(signatureHex)!, new TextEncoder().encode(json)))) {
    throw new VerifyError(rules.signature, `${rules.what} is not signed by its signer`);
  }
  const document = rules.read.get(json) ?? readSigned(json, rules);
  rules.read.set(json, document);
  checkWindow(rules.what, signedWindow(document), now, rules.window);
  return document;
}

function readSigned<T>(
  json: string,
  { what, schema, version: expected, malformed, unknownVersion }: SignedRules<T>,
): T {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw new VerifyError("json/malformed", `${what} is signed, but no JSON`);
  }
  const { version } = interpret(versionedSchema, value, malformed, what);
  if (version !== expected) {
    throw new VerifyError(unknownVersion, `${what} has a version that is not known`, {
      expected: `${expected}`,
      actual: `${version}`,
    });
  }
  return interpret(schema, value, malformed, what);
}
