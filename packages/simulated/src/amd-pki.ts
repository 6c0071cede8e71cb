// SPDX-License-Identifier: Apache-2.0
/**
 * A test hierarchy that plays AMD: root (ARK), ASK or ASVK, VCEK or VLEK, the list of revocations, and reports for any field
 * values. Its root is trusted by nobody who does not name it. As in `pki.ts`, `amdHierarchy` gives a plain description that a
 * test may change in any place before `mintAmd` signs it. RSA-PSS is randomised: the bytes differ from run to run.
 */
import { constants, createHash, generateKeyPairSync, type KeyObject, sign as signWith } from "node:crypto";
import { bitString, der, integer, oid, sequence, time, toPem, utf8 } from "@caisson/verify/der-writer";
import { type ExtensionSpec, extensions } from "./certificates.ts";
import { type Times } from "./pki.ts";

type Product = "Milan" | "Genoa" | "Turin";
type Kind = "vcek" | "vlek";

const hexBytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"));
const ia5 = (text: string) => der(0x16, Buffer.from(text));

/** Making an RSA key takes a second: two serve all hierarchies of a process. */
const rsaKeys: KeyPair[] = [];
export interface KeyPair {
  publicKey: KeyObject;
  privateKey: KeyObject;
}
export function rsaKey(index: 0 | 1): KeyPair {
  rsaKeys[index] ??= generateKeyPairSync("rsa", { modulusLength: 4096 });
  return rsaKeys[index];
}
export const p384Key = (): KeyPair => generateKeyPairSync("ec", { namedCurve: "secp384r1" });

/** What certificates and the list share. `corrupt` changes the finished bytes. */
interface SignedSpec {
  issuer: string;
  issuerKey: KeyPair;
  /** AlgorithmIdentifier, in both places. */
  algorithm: Uint8Array;
  extensions: ExtensionSpec[];
  saltLength: number;
  corrupt?: (encoding: Uint8Array) => Uint8Array;
}
export interface AmdCertificateSpec extends SignedSpec {
  subject: string;
  key: KeyPair;
  serial: number;
  notBefore: Date;
  notAfter: Date;
}
export interface AmdCrlSpec extends SignedSpec {
  thisUpdate: Date;
  nextUpdate: Date;
  revoked: number[];
}

/** RSASSA-PSS as AMD writes it: `trailer` is there in some certificates and left out in others. */
export function pssAlgorithm({
  hash = "2.16.840.1.101.3.4.2.2",
  salt = 48,
  trailer = true,
} = {}): Uint8Array {
  const sha = sequence(oid(hash), der(0x05));
  return sequence(
    oid("1.2.840.113549.1.1.10"),
    sequence(
      der(0xa0, sha),
      der(0xa1, sequence(oid("1.2.840.113549.1.1.8"), sha)),
      der(0xa2, integer(salt)),
      ...(trailer ? [der(0xa3, integer(1))] : []),
    ),
  );
}

function distinguishedName(commonName: string): Uint8Array {
  const attributes: [string, string][] = [
    ["2.5.4.11", "Engineering"],
    ["2.5.4.6", "US"],
    ["2.5.4.7", "Santa Clara"],
    ["2.5.4.8", "CA"],
    ["2.5.4.10", "Advanced Micro Devices"],
    ["2.5.4.3", commonName],
  ];
  return sequence(...attributes.map(([type, value]) => der(0x31, sequence(oid(type), utf8(value)))));
}

function signed(tbs: Uint8Array, { issuerKey, algorithm, saltLength, corrupt }: SignedSpec): Uint8Array {
  const { privateKey: key } = issuerKey;
  const rsa = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength };
  const signature = signWith("sha384", tbs, { key, ...(key.asymmetricKeyType === "rsa" && rsa) });
  const encoding = sequence(tbs, algorithm, bitString(signature));
  return corrupt === undefined ? encoding : corrupt(encoding);
}

const spki = (key: KeyPair): Uint8Array =>
  new Uint8Array(key.publicKey.export({ type: "spki", format: "der" }));

export function issueAmdCertificate(spec: AmdCertificateSpec): Uint8Array {
  const tbs = sequence(
    der(0xa0, integer(2)),
    integer(spec.serial),
    spec.algorithm,
    distinguishedName(spec.issuer),
    sequence(time(spec.notBefore), time(spec.notAfter)),
    distinguishedName(spec.subject),
    spki(spec.key),
    der(0xa3, extensions(spec.extensions)),
  );
  return signed(tbs, spec);
}

function issueAmdCrl(spec: AmdCrlSpec): Uint8Array {
  const entries = spec.revoked.map((serial) => sequence(integer(serial), time(spec.thisUpdate)));
  const tbs = sequence(
    integer(1),
    spec.algorithm,
    distinguishedName(spec.issuer),
    time(spec.thisUpdate),
    time(spec.nextUpdate),
    ...(entries.length === 0 ? [] : [sequence(...entries)]),
    ...(spec.extensions.length === 0 ? [] : [der(0xa0, extensions(spec.extensions))]),
  );
  return signed(tbs, spec);
}

/** TCB components by name; in the product's layout they become 8 bytes. */
export type TcbSpec = Partial<Record<"fmc" | "bootLoader" | "tee" | "snp" | "microcode", number>>;

const tcbPlaces: Record<Product, Partial<Record<keyof TcbSpec, number>>> = {
  Milan: { bootLoader: 0, tee: 1, snp: 6, microcode: 7 },
  Genoa: { bootLoader: 0, tee: 1, snp: 6, microcode: 7 },
  Turin: { fmc: 0, bootLoader: 1, tee: 2, snp: 3, microcode: 7 },
};

export function tcbBytes(tcb: TcbSpec, product: Product): Uint8Array {
  const bytes = new Uint8Array(8);
  for (const [name, place] of Object.entries(tcbPlaces[product]))
    bytes[place] = tcb[name as keyof TcbSpec] ?? 0;
  return bytes;
}

/** Fields of a report; hexadecimal, numbers little-endian. TCB versions are 8 bytes. */
export interface ReportSpec {
  version: number;
  guestSvn: number;
  policy: bigint;
  familyId: string;
  imageId: string;
  vmpl: number;
  signatureAlgorithm: number;
  currentTcb: Uint8Array;
  platformInfo: bigint;
  keyInfo: number;
  reportData: string;
  measurement: string;
  hostData: string;
  idKeyDigest: string;
  authorKeyDigest: string;
  reportId: string;
  reportIdMa: string;
  reportedTcb: Uint8Array;
  cpu: [family: number, model: number, stepping: number];
  chipId: string;
  committedTcb: Uint8Array;
  launchTcb: Uint8Array;
}

/** The whole hierarchy, described and not yet signed. */
export interface AmdHierarchy {
  product: Product;
  kind: Kind;
  endorsementKey: KeyPair;
  ark: AmdCertificateSpec;
  ask: AmdCertificateSpec;
  endorsement: AmdCertificateSpec;
  crl: AmdCrlSpec;
  report: ReportSpec;
}

const amdOid = "1.3.6.1.4.1.3704.1";
const cpus: Record<Product, ReportSpec["cpu"]> = {
  Milan: [0x19, 1, 1],
  Genoa: [0x19, 0x11, 0],
  Turin: [0x1a, 2, 1],
};

/** Extensions of a VCEK or VLEK. */
export function endorsementExtensions(
  product: Product,
  kind: Kind,
  tcb: TcbSpec,
  chipId: string,
): ExtensionSpec[] {
  const level = (arc: number, value: number | undefined): ExtensionSpec => ({
    oid: `${amdOid}.3.${arc}`,
    value: integer(value ?? 0),
  });
  return [
    { oid: `${amdOid}.1`, value: integer(0) },
    { oid: `${amdOid}.2`, value: ia5(product === "Milan" ? "Milan-B0" : product) },
    level(1, tcb.bootLoader),
    level(2, tcb.tee),
    level(3, tcb.snp),
    ...[4, 5, 6, 7].map((arc) => level(arc, 0)),
    level(8, tcb.microcode),
    ...(product === "Turin" ? [level(9, tcb.fmc)] : []),
    kind === "vcek"
      ? { oid: `${amdOid}.4`, value: hexBytes(chipId) }
      : { oid: `${amdOid}.5`, value: ia5("CN=cc-test.example") },
  ];
}

/** The chip of a product that all hierarchies have, and its versions. */
function chip(product: Product): { tcb: TcbSpec; chipId: string } {
  const seed = createHash("sha512").update(`caisson test chip ${product}`).digest("hex");
  return {
    tcb: { fmc: product === "Turin" ? 3 : 0, bootLoader: 4, tee: 0, snp: 24, microcode: 219 },
    chipId: product === "Turin" ? `${seed.slice(0, 16)}${"00".repeat(56)}` : seed,
  };
}

const keyId = (key: KeyPair): Uint8Array => createHash("sha1").update(spki(key)).digest();

function authorityExtensions(key: KeyPair, usage: number, constraints: Uint8Array): ExtensionSpec[] {
  return [
    { oid: "2.5.29.14", value: der(0x04, keyId(key)) },
    // One unused bit, whatever the last one that is set: as AMD writes it.
    { oid: "2.5.29.15", critical: true, value: der(0x03, Uint8Array.of(1, usage >> 8)) },
    { oid: "2.5.29.19", critical: true, value: constraints },
  ];
}

/** Root, the authority below it, the chip's key, and the root's list of revocations. */
function documents(
  product: Product,
  { issued, expires }: Times,
  kind: Kind,
  endorsementKey: KeyPair,
): Pick<AmdHierarchy, "ark" | "ask" | "endorsement" | "crl"> {
  const [arkKey, askKey] = [rsaKey(0), rsaKey(1)];
  const ark = `ARK-${product}`;
  const ask = kind === "vcek" ? `SEV-${product}` : `SEV-VLEK-${product}`;
  const yes = der(0x01, Uint8Array.of(0xff));
  const byRoot = { algorithm: pssAlgorithm(), saltLength: 48, issuer: ark, issuerKey: arkKey };
  const validity = { notBefore: issued, notAfter: expires };
  const { tcb, chipId } = chip(product);
  return {
    ark: {
      ...byRoot,
      ...validity,
      subject: ark,
      key: arkKey,
      serial: 0x10000,
      extensions: authorityExtensions(arkKey, 0x0600, sequence(yes)),
    },
    ask: {
      ...byRoot,
      ...validity,
      subject: ask,
      key: askKey,
      serial: 0x10001,
      extensions: [
        { oid: "2.5.29.35", value: sequence(der(0x80, keyId(arkKey))) },
        ...authorityExtensions(askKey, 0x0400, sequence(yes, integer(0))),
      ],
    },
    endorsement: {
      ...validity,
      algorithm: pssAlgorithm({ trailer: false }),
      saltLength: 48,
      issuer: ask,
      issuerKey: askKey,
      subject: `SEV-${kind.toUpperCase()}`,
      key: endorsementKey,
      serial: 0,
      extensions: endorsementExtensions(product, kind, tcb, chipId),
    },
    crl: {
      ...byRoot,
      thisUpdate: issued,
      nextUpdate: expires,
      revoked: [],
      extensions: [{ oid: "2.5.29.20", value: integer(1) }],
    },
  };
}

/** What the chip says of a guest in good order. */
function chipReport(product: Product, kind: Kind): ReportSpec {
  const { tcb, chipId } = chip(product);
  const levels = tcbBytes(tcb, product);
  return {
    version: 3,
    guestSvn: 0,
    policy: 0x30000n,
    familyId: "00".repeat(16),
    imageId: "00".repeat(16),
    vmpl: 0,
    signatureAlgorithm: 1,
    currentTcb: levels,
    platformInfo: 0x25n,
    keyInfo: kind === "vcek" ? 0 : 1 << 2,
    reportData: "00".repeat(64),
    measurement: "ab".repeat(48),
    hostData: "00".repeat(32),
    idKeyDigest: "00".repeat(48),
    authorKeyDigest: "00".repeat(48),
    reportId: "01".repeat(32),
    reportIdMa: "ff".repeat(32),
    reportedTcb: levels,
    cpu: cpus[product],
    chipId,
    committedTcb: levels,
    launchTcb: levels,
  };
}

/** Describes a hierarchy in good order for one chip. */
export function amdHierarchy(product: Product, times: Times, kind: Kind = "vcek"): AmdHierarchy {
  const endorsementKey = p384Key();
  return {
    product,
    kind,
    endorsementKey,
    ...documents(product, times, kind, endorsementKey),
    report: chipReport(product, kind),
  };
}

/** What a verifier trusts, and what AMD would serve. */
export interface AmdMinted {
  roots: { name: string; product: Product; keySha256: string }[];
  collateral: { endorsement: Uint8Array; chain: Uint8Array[]; crl: Uint8Array };
  /** The same as `caisson collateral fetch` writes it. */
  document: { version: "caisson/amd-collateral/v1"; endorsement: string; chain: string; crl: string };
}

/** Signs all of a hierarchy's documents. */
export function mintAmd(h: AmdHierarchy): AmdMinted {
  const endorsement = issueAmdCertificate(h.endorsement);
  const chain = [issueAmdCertificate(h.ask), issueAmdCertificate(h.ark)];
  const crl = issueAmdCrl(h.crl);
  return {
    roots: [
      {
        name: `simulated ARK-${h.product}`,
        product: h.product,
        keySha256: createHash("sha256")
          .update(spki(rsaKey(0)))
          .digest("hex"),
      },
    ],
    collateral: { endorsement, chain, crl },
    document: {
      version: "caisson/amd-collateral/v1",
      endorsement: toPem(endorsement),
      chain: toPem(...chain),
      crl: Buffer.from(crl).toString("hex"),
    },
  };
}

/** A report of the hierarchy's chip, 1184 bytes; `patch` changes what is signed. */
export function issueReport(h: AmdHierarchy, patch?: (bytes: Uint8Array) => void): Uint8Array {
  const r = h.report;
  const bytes = new Uint8Array(1184);
  const view = new DataView(bytes.buffer);
  const put = (at: number, hex: string) => bytes.set(hexBytes(hex), at);
  view.setUint32(0, r.version, true);
  view.setUint32(4, r.guestSvn, true);
  view.setBigUint64(8, r.policy, true);
  put(0x10, r.familyId);
  put(0x20, r.imageId);
  view.setUint32(0x30, r.vmpl, true);
  view.setUint32(0x34, r.signatureAlgorithm, true);
  bytes.set(r.currentTcb, 0x38);
  view.setBigUint64(0x40, r.platformInfo, true);
  view.setUint32(0x48, r.keyInfo, true);
  put(0x50, r.reportData);
  put(0x90, r.measurement);
  put(0xc0, r.hostData);
  put(0xe0, r.idKeyDigest);
  put(0x110, r.authorKeyDigest);
  put(0x140, r.reportId);
  put(0x160, r.reportIdMa);
  bytes.set(r.reportedTcb, 0x180);
  if (r.version >= 3) bytes.set(r.cpu, 0x188);
  put(0x1a0, r.chipId);
  bytes.set(r.committedTcb, 0x1e0);
  bytes.set([29, 55, 1, 0, 29, 55, 1, 0], 0x1e8);
  bytes.set(r.launchTcb, 0x1f0);
  if (r.version >= 5) view.setBigUint64(0x1f8, 3n, true);
  if (r.version >= 5) view.setBigUint64(0x200, 7n, true);
  patch?.(bytes);
  const signature = signWith("sha384", bytes.subarray(0, 0x2a0), {
    key: h.endorsementKey.privateKey,
    dsaEncoding: "ieee-p1363",
  });
  bytes.set(signature.subarray(0, 48).reverse(), 0x2a0);
  bytes.set(signature.subarray(48).reverse(), 0x2a0 + 72);
  return bytes;
}
