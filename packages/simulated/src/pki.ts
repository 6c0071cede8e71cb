// SPDX-License-Identifier: Apache-2.0
/**
 * A test hierarchy that plays Intel: root, PCK CA, PCK with the SGX extension, TCB signing, both CRLs, TCB info and
 * QE identity. `quotes.ts` makes quotes of its platform. The same seed and times give the same bytes.
 *
 * It is used by tests, by the emulated platform's quoting service and by benchmarks. Its root is trusted by nobody
 * who does not name it. `hierarchy` gives a plain description, which a test may change in any place before `mint`
 * signs it: so a wrong document can be a correctly signed one.
 */
import { createHash } from "node:crypto";
import type { TrustAnchor } from "@caisson/verify";
import type { Collateral } from "@caisson/verify/collateral";
import { der, integer, namedBits, oid, sequence, toPem } from "@caisson/verify/der-writer";
import {
  type CertificateSpec,
  type CrlSpec,
  type ExtensionSpec,
  issueCertificate,
  issueCrl,
} from "./certificates.ts";
import { TestKey } from "./p256.ts";

const hexBytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"));
const sha256 = (...parts: Uint8Array[]): Uint8Array =>
  new Uint8Array(createHash("sha256").update(Buffer.concat(parts)).digest());
const zeros = (bytes: number): string => "00".repeat(bytes);
const isoSeconds = (date: Date): string => date.toISOString().replace(/\.\d+Z$/, "Z");

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

/** Versions of the TDX module that the TCB info calls up to date. */
export const tdxModuleSvn = `050103${zeros(13)}`;

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

type Tee = "tdx" | "sgx";

const platformOf = (seed: string): PckSpec => ({
  ppid: Buffer.from(sha256(Buffer.from(`${seed}/ppid`)).slice(0, 16)).toString("hex"),
  sgxSvns: [3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0],
  pceSvn: 13,
  pceId: "0000",
  fmspc: "ca1550000000",
});

const quotingEnclave = (tee: Tee): QeSpec => ({
  miscSelect: "00000000",
  attributes: "11000000000000000000000000000000",
  mrSigner: Buffer.from(sha256(Buffer.from("caisson test quoting enclave"))).toString("hex"),
  isvProdId: tee === "tdx" ? 2 : 1,
  isvSvn: 4,
  authData: Uint8Array.from({ length: 32 }, (_, i) => i),
});

/** Describes a hierarchy in good order for one platform, whose TCB is up to date. */
export function hierarchy(seed: string, times: Times, tee: Tee = "tdx"): Hierarchy {
  const { issued, expires } = times;
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
  const platform = platformOf(seed);
  const rootName = "Intel SGX Root CA";
  const caName = "Intel SGX PCK Platform CA";
  const pck = certificate("pck", "Intel SGX PCK Certificate", caName, keys.pckCa);
  pck.extensions.push({ oid: sgxOid, value: sgxExtension(platform) });
  const qe = quotingEnclave(tee);
  return {
    keys,
    root: certificate("root", rootName, rootName, keys.root, 1),
    pckCa: certificate("pckCa", caName, rootName, keys.root, 0),
    pck,
    tcbSigner: certificate("tcbSigner", "Intel SGX TCB Signing", rootName, keys.root),
    rootCrl: crl(rootName, keys.root),
    pckCrl: crl(caName, keys.pckCa),
    tcbInfo: tcbInfo(platform, times, tee),
    qeIdentity: qeIdentity(qe, times, tee),
    qe,
  };
}

function tcbInfo(platform: PckSpec, { issued, expires }: Times, tee: Tee): Record<string, unknown> {
  const svns = (values: readonly number[]) => values.map((svn) => ({ svn }));
  const date = isoSeconds(issued);
  const module = { mrsigner: zeros(48), attributes: zeros(8), attributesMask: "FF".repeat(8) };
  const level = { tcbDate: date, tcbStatus: "UpToDate" };
  const tdx = [...hexBytes(tdxModuleSvn)];
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

function qeIdentity(qe: QeSpec, { issued, expires }: Times, tee: Tee): Record<string, unknown> {
  return {
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
