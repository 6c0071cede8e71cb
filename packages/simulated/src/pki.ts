// SPDX-License-Identifier: Apache-2.0
/**
 * A test hierarchy that plays Intel: root, PCK CA, PCK with the SGX extension, TCB signing, both CRLs, TCB info, QE
 * identity, and quotes for any register values. The same seed and times give the same bytes.
 *
 * It is used by tests, by the emulated platform's quoting service and by benchmarks. Its root is trusted by nobody
 * who does not name it. `hierarchy` gives a plain description, which a test may change in any place before `mint`
 * signs it: so a wrong document can be a correctly signed one.
 */
import { createHash } from "node:crypto";
import type { TrustAnchor } from "@caisson/verify";
import type { Collateral } from "@caisson/verify/collateral";
import {
  bitString,
  der,
  integer,
  namedBits,
  oid,
  sequence,
  time,
  toPem,
  utf8,
} from "@caisson/verify/der-writer";
import { TestKey } from "./p256.ts";

const hexBytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"));
const sha256 = (...parts: Uint8Array[]): Uint8Array =>
  new Uint8Array(createHash("sha256").update(Buffer.concat(parts)).digest());
const isoSeconds = (date: Date): string => date.toISOString().replace(/\.\d+Z$/, "Z");

/** An extension to be encoded: `value` is the content of its OCTET STRING. */
export interface ExtensionSpec {
  oid: string;
  critical?: boolean;
  value: Uint8Array;
}

/** What certificates and CRLs share. `patch` may change the bytes that are signed, `corrupt` those that are sent. */
interface SignedSpec {
  issuer: string;
  issuerKey: TestKey;
  extensions: ExtensionSpec[];
  patch?: (tbs: Uint8Array) => Uint8Array;
  corrupt?: (encoding: Uint8Array) => Uint8Array;
}

export interface CertificateSpec extends SignedSpec {
  subject: string;
  key: TestKey;
  serial: Uint8Array;
  notBefore: Date;
  notAfter: Date;
}

export interface CrlSpec extends SignedSpec {
  thisUpdate: Date;
  nextUpdate: Date;
  revoked: Uint8Array[];
}

const ecdsaSha256 = sequence(oid("1.2.840.10045.4.3.2"));

function distinguishedName(commonName: string): Uint8Array {
  const attributes: [string, string][] = [
    ["2.5.4.3", commonName],
    ["2.5.4.10", "Intel Corporation"],
    ["2.5.4.7", "Santa Clara"],
    ["2.5.4.8", "CA"],
    ["2.5.4.6", "US"],
  ];
  return sequence(...attributes.map(([type, value]) => der(0x31, sequence(oid(type), utf8(value)))));
}

export function extensions(specs: readonly ExtensionSpec[]): Uint8Array {
  return sequence(
    ...specs.map(({ oid: id, critical = false, value }) =>
      sequence(oid(id), ...(critical ? [der(0x01, Uint8Array.of(0xff))] : []), der(0x04, value)),
    ),
  );
}

function sign(tbs: Uint8Array, { issuerKey, patch, corrupt }: SignedSpec): Uint8Array {
  const signed = patch === undefined ? tbs : patch(tbs);
  const signature = issuerKey.sign(signed);
  const value = sequence(integer(signature.subarray(0, 32)), integer(signature.subarray(32)));
  const encoding = sequence(signed, ecdsaSha256, bitString(value));
  return corrupt === undefined ? encoding : corrupt(encoding);
}

/** DER of a certificate. */
export function issueCertificate(spec: CertificateSpec): Uint8Array {
  const publicKey = sequence(
    sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")),
    bitString(spec.key.publicKey),
  );
  const tbs = sequence(
    der(0xa0, integer(2)),
    integer(spec.serial),
    ecdsaSha256,
    distinguishedName(spec.issuer),
    sequence(time(spec.notBefore), time(spec.notAfter)),
    distinguishedName(spec.subject),
    publicKey,
    der(0xa3, extensions(spec.extensions)),
  );
  return sign(tbs, spec);
}

/** DER of a CRL. */
export function issueCrl(spec: CrlSpec): Uint8Array {
  const entries = spec.revoked.map((serial) => sequence(integer(serial), time(spec.thisUpdate)));
  const tbs = sequence(
    integer(1),
    ecdsaSha256,
    distinguishedName(spec.issuer),
    time(spec.thisUpdate),
    time(spec.nextUpdate),
    ...(entries.length === 0 ? [] : [sequence(...entries)]),
    ...(spec.extensions.length === 0 ? [] : [der(0xa0, extensions(spec.extensions))]),
  );
  return sign(tbs, spec);
}

const keyId = (key: TestKey): Uint8Array => sha256(key.publicKey).slice(0, 20);
const authority = (key: TestKey): ExtensionSpec => ({
  oid: "2.5.29.35",
  value: sequence(der(0x80, keyId(key))),
});

/** Key usages as DER named bits: certificate and CRL signing; digital signature and non-repudiation. */
const caUsage = 0x0600;
const leafUsage = 0xc000;

/** One distribution point with one URI that nobody serves. */
const crlDistributionPoint = sequence(
  sequence(der(0xa0, der(0xa0, der(0x86, Buffer.from("https://crl.invalid/"))))),
);

function certificateExtensions(key: TestKey, issuerKey: TestKey, pathLength?: number): ExtensionSpec[] {
  const ca = pathLength !== undefined;
  return [
    authority(issuerKey),
    { oid: "2.5.29.14", value: der(0x04, keyId(key)) },
    { oid: "2.5.29.15", critical: true, value: namedBits(ca ? caUsage : leafUsage) },
    {
      oid: "2.5.29.19",
      critical: true,
      value: ca ? sequence(der(0x01, Uint8Array.of(0xff)), integer(pathLength)) : sequence(),
    },
    { oid: "2.5.29.31", value: crlDistributionPoint },
  ];
}

/** What the SGX extension of the PCK certificate says. */
export interface PckSpec {
  ppid: string;
  sgxSvns: number[];
  pceSvn: number;
  pceId: string;
  fmspc: string;
  /** With it, the extension has what the platform CA adds: instance id and configuration. */
  piid?: string;
}

const sgxOid = "1.2.840.113741.1.13.1";

/** Content of the SGX extension. */
export function sgxExtension({ ppid, sgxSvns, pceSvn, pceId, fmspc, piid }: PckSpec): Uint8Array {
  const field = (id: string, value: Uint8Array) => sequence(oid(`${sgxOid}.${id}`), value);
  const octets = (hex: string) => der(0x04, hexBytes(hex));
  return sequence(
    field("1", octets(ppid)),
    field(
      "2",
      sequence(
        ...sgxSvns.map((svn, i) => field(`2.${i + 1}`, integer(svn))),
        field("2.17", integer(pceSvn)),
        field("2.18", der(0x04, Uint8Array.from(sgxSvns))),
      ),
    ),
    field("3", octets(pceId)),
    field("4", octets(fmspc)),
    field("5", der(0x0a, Uint8Array.of(0))),
    ...(piid === undefined
      ? []
      : [
          field("6", octets(piid)),
          field("7", sequence(...[1, 2, 3].map((flag) => field(`7.${flag}`, der(0x01, Uint8Array.of(0)))))),
        ]),
  );
}

/** Fields of a TD report; all but the registers and report data have defaults. Hexadecimal. */
export interface TdSpec {
  teeTcbSvn: string;
  mrSeam: string;
  mrSignerSeam: string;
  seamAttributes: string;
  tdAttributes: string;
  xfam: string;
  mrTd: string;
  mrConfigId: string;
  mrOwner: string;
  mrOwnerConfig: string;
  rtmr0: string;
  rtmr1: string;
  rtmr2: string;
  rtmr3: string;
  reportData: string;
  teeTcbSvn2: string;
  mrServiceTd: string;
  /** What a TD report 1.5 extended adds: 237 bytes. */
  extension: string;
}

const zeros = (bytes: number): string => "00".repeat(bytes);

const defaultTd: TdSpec = {
  teeTcbSvn: `050103${zeros(13)}`,
  mrSeam: zeros(48),
  mrSignerSeam: zeros(48),
  seamAttributes: zeros(8),
  // SEPT_VE_DISABLE, as Linux demands.
  tdAttributes: "0000001000000000",
  xfam: "e702060000000000",
  mrTd: zeros(48),
  mrConfigId: zeros(48),
  mrOwner: zeros(48),
  mrOwnerConfig: zeros(48),
  rtmr0: zeros(48),
  rtmr1: zeros(48),
  rtmr2: zeros(48),
  rtmr3: zeros(48),
  reportData: zeros(64),
  teeTcbSvn2: `050103${zeros(13)}`,
  mrServiceTd: zeros(48),
  // Not partitioned, an id of its own, nothing else.
  extension: `00${"77".repeat(32)}${zeros(204)}`,
};

/** Which quote: version 3 (SGX), 4 (TD 1.0), or 5 with a TD 1.0, TD 1.5 or extended TD 1.5 body. */
export type QuoteFormat = "sgx-v3" | "td10-v4" | "td10-v5" | "td15-v5" | "td15ex-v5";

const bodyFields: Record<Exclude<QuoteFormat, "sgx-v3">, readonly (keyof TdSpec)[]> = (() => {
  const td10 = Object.keys(defaultTd).slice(0, 15) as (keyof TdSpec)[];
  const td15: (keyof TdSpec)[] = [...td10, "teeTcbSvn2", "mrServiceTd"];
  return { "td10-v4": td10, "td10-v5": td10, "td15-v5": td15, "td15ex-v5": [...td15, "extension"] };
})();

/** The quoting enclave's report and what surrounds it. */
export interface QeSpec {
  miscSelect: string;
  attributes: string;
  mrSigner: string;
  isvProdId: number;
  isvSvn: number;
  authData: Uint8Array;
  /** Report data; by default the binding of the attestation key. */
  reportData?: Uint8Array;
}

/** The whole hierarchy, described and not yet signed. */
export interface Hierarchy {
  keys: Record<"root" | "pckCa" | "pck" | "tcbSigner" | "attestation", TestKey>;
  root: CertificateSpec;
  pckCa: CertificateSpec;
  pck: CertificateSpec;
  tcbSigner: CertificateSpec;
  rootCrl: CrlSpec;
  pckCrl: CrlSpec;
  /** As Intel's PCS publishes them (API v4), before signing. */
  tcbInfo: Record<string, unknown>;
  qeIdentity: Record<string, unknown>;
  qe: QeSpec;
}

export interface Times {
  /** When everything is issued, and until when it is valid. */
  issued: Date;
  expires: Date;
}

/** Describes a hierarchy in good order for one platform, whose TCB is up to date. */
export function hierarchy(seed: string, { issued, expires }: Times, tee: "tdx" | "sgx" = "tdx"): Hierarchy {
  const key = (label: string) => TestKey.derive(seed, label);
  const keys = {
    root: key("root"),
    pckCa: key("pck-ca"),
    pck: key("pck"),
    tcbSigner: key("tcb-signer"),
    attestation: key("attestation"),
  };
  const serial = (label: string) => sha256(Buffer.from(`${seed}/${label}/serial`)).slice(0, 19);
  const certificate = (
    label: keyof typeof keys,
    subject: string,
    issuer: string,
    issuerKey: TestKey,
    pathLength?: number,
  ): CertificateSpec => ({
    subject,
    issuer,
    issuerKey,
    key: keys[label],
    serial: serial(label),
    notBefore: issued,
    notAfter: expires,
    extensions: certificateExtensions(keys[label], issuerKey, pathLength),
  });
  const crl = (issuer: string, issuerKey: TestKey): CrlSpec => ({
    issuer,
    issuerKey,
    thisUpdate: issued,
    nextUpdate: expires,
    revoked: [],
    extensions: [{ oid: "2.5.29.20", value: integer(1) }, authority(issuerKey)],
  });
  const platform: PckSpec = {
    ppid: Buffer.from(sha256(Buffer.from(`${seed}/ppid`)).slice(0, 16)).toString("hex"),
    sgxSvns: [3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0],
    pceSvn: 13,
    pceId: "0000",
    fmspc: "ca1550000000",
  };
  const rootName = "Intel SGX Root CA";
  const caName = "Intel SGX PCK Platform CA";
  const pck = certificate("pck", "Intel SGX PCK Certificate", caName, keys.pckCa);
  pck.extensions.push({ oid: sgxOid, value: sgxExtension(platform) });
  const qe: QeSpec = {
    miscSelect: "00000000",
    attributes: "11000000000000000000000000000000",
    mrSigner: Buffer.from(sha256(Buffer.from("caisson test quoting enclave"))).toString("hex"),
    isvProdId: tee === "tdx" ? 2 : 1,
    isvSvn: 4,
    authData: Uint8Array.from({ length: 32 }, (_, i) => i),
  };
  return {
    keys,
    root: certificate("root", rootName, rootName, keys.root, 1),
    pckCa: certificate("pckCa", caName, rootName, keys.root, 0),
    pck,
    tcbSigner: certificate("tcbSigner", "Intel SGX TCB Signing", rootName, keys.root),
    rootCrl: crl(rootName, keys.root),
    pckCrl: crl(caName, keys.pckCa),
    tcbInfo: tcbInfo(platform, { issued, expires }, tee),
    qeIdentity: {
      id: tee === "tdx" ? "TD_QE" : "QE",
      version: 2,
      issueDate: isoSeconds(issued),
      nextUpdate: isoSeconds(expires),
      tcbEvaluationDataNumber: 18,
      miscselect: qe.miscSelect,
      miscselectMask: "FFFFFFFF",
      attributes: qe.attributes,
      attributesMask: "FBFFFFFFFFFFFFFF0000000000000000",
      mrsigner: qe.mrSigner.toUpperCase(),
      isvprodid: qe.isvProdId,
      tcbLevels: [{ tcb: { isvsvn: qe.isvSvn }, tcbDate: isoSeconds(issued), tcbStatus: "UpToDate" }],
    },
    qe,
  };
}

function tcbInfo(platform: PckSpec, { issued, expires }: Times, tee: "tdx" | "sgx"): Record<string, unknown> {
  const svns = (values: readonly number[]) => values.map((svn) => ({ svn }));
  const date = isoSeconds(issued);
  const module = { mrsigner: zeros(48), attributes: zeros(8), attributesMask: "FF".repeat(8) };
  const level = { tcbDate: date, tcbStatus: "UpToDate" };
  const tdx = [...hexBytes(defaultTd.teeTcbSvn)];
  return {
    id: tee.toUpperCase(),
    version: 3,
    issueDate: date,
    nextUpdate: isoSeconds(expires),
    fmspc: platform.fmspc,
    pceId: platform.pceId,
    tcbType: 0,
    tcbEvaluationDataNumber: 18,
    ...(tee === "tdx" && {
      tdxModule: module,
      tdxModuleIdentities: [{ id: "TDX_01", ...module, tcbLevels: [{ tcb: { isvsvn: tdx[0] }, ...level }] }],
    }),
    tcbLevels: [
      {
        tcb: {
          sgxtcbcomponents: svns(platform.sgxSvns),
          pcesvn: platform.pceSvn,
          ...(tee === "tdx" && { tdxtcbcomponents: svns(tdx) }),
        },
        ...level,
      },
    ],
  };
}

/** Everything signed: what a verifier trusts, what Intel would publish, and the chain of the platform. */
export interface Minted {
  trust: TrustAnchor;
  collateral: Collateral;
  pckChain: string;
}

/** Signs all of a hierarchy's documents. */
export function mint(h: Hierarchy): Minted {
  const root = issueCertificate(h.root);
  const pckCa = issueCertificate(h.pckCa);
  const signerChain = toPem(issueCertificate(h.tcbSigner), root);
  const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
  const signJson = (text: string) => toHex(h.keys.tcbSigner.sign(Buffer.from(text)));
  const [info, identity] = [JSON.stringify(h.tcbInfo), JSON.stringify(h.qeIdentity)];
  return {
    trust: { name: "simulated root", rootKey: h.keys.root.publicKey },
    pckChain: toPem(issueCertificate(h.pck), pckCa, root),
    collateral: {
      pck_crl_issuer_chain: toPem(pckCa, root),
      root_ca_crl: toHex(issueCrl(h.rootCrl)),
      pck_crl: toHex(issueCrl(h.pckCrl)),
      tcb_info_issuer_chain: signerChain,
      tcb_info: info,
      tcb_info_signature: signJson(info),
      qe_identity_issuer_chain: signerChain,
      qe_identity: identity,
      qe_identity_signature: signJson(identity),
    },
  };
}

const u16 = (value: number) => Uint8Array.of(value & 0xff, value >> 8);
const u32 = (value: number) => Uint8Array.of(value, value >> 8, value >> 16, value >> 24);

function enclaveReport(qe: Omit<QeSpec, "authData">, reportData: Uint8Array): Uint8Array {
  const report = new Uint8Array(384);
  report.set(hexBytes(qe.miscSelect), 16);
  report.set(hexBytes(qe.attributes), 48);
  report.set(hexBytes(qe.mrSigner), 128);
  report.set([...u16(qe.isvProdId), ...u16(qe.isvSvn)], 256);
  report.set(reportData, 320);
  return report;
}

/** Sizes of certification data in the envelope can be wrong only by a change of the finished bytes. */
const envelope = (type: number, data: Uint8Array) => Buffer.concat([u16(type), u32(data.length), data]);

/**
 * A quote of the hierarchy's platform. `td` fields that are left out have defaults (registers zero).
 * @param pckChain PEM for the quote to carry; `mint(h).pckChain`
 */
export function issueQuote(
  h: Hierarchy,
  pckChain: string,
  td: Partial<TdSpec> = {},
  format: QuoteFormat = "td15-v5",
): Uint8Array {
  const version = Number(format.at(-1));
  const fields = { ...defaultTd, ...td };
  const body =
    format === "sgx-v3"
      ? enclaveReport(h.qe, hexBytes(fields.reportData))
      : Buffer.concat(bodyFields[format].map((name) => hexBytes(fields[name])));
  const bodyType = format === "td15ex-v5" ? 4 : format === "td15-v5" ? 3 : 2;
  const descriptor = version === 5 ? [u16(bodyType), u32(body.length)] : [];
  const header = Buffer.concat([
    u16(version),
    u16(2),
    u32(version === 3 ? 0 : 0x81),
    u32(0),
    hexBytes("939a7233f79c4ca9940a0db3957f0607"),
    new Uint8Array(20),
  ]);
  const signed = Buffer.concat([header, ...descriptor, body]);

  const attestationKey = h.keys.attestation.publicKey.subarray(1);
  const binding = new Uint8Array(64);
  binding.set(sha256(attestationKey, h.qe.authData));
  const report = enclaveReport(h.qe, h.qe.reportData ?? binding);
  const certification = Buffer.concat([
    report,
    h.keys.pck.sign(report),
    u16(h.qe.authData.length),
    h.qe.authData,
    envelope(5, Buffer.from(pckChain)),
  ]);
  const signatureData = Buffer.concat([
    h.keys.attestation.sign(signed),
    attestationKey,
    version === 3 ? certification : envelope(6, certification),
  ]);
  return new Uint8Array(Buffer.concat([signed, u32(signatureData.length), signatureData]));
}
