// SPDX-License-Identifier: Apache-2.0
/** Wrong SEV-SNP evidence: one wrong thing at a time, with the code that must refuse it (`refusals.ts` for quotes). */
import {
  type AmdHierarchy,
  type AmdMinted,
  amdHierarchy,
  issueReport,
  mintAmd,
  p384Key,
  pssAlgorithm,
  rsaKey,
  tcbBytes,
} from "@caisson/simulated/amd-pki";
import type { AmdCollateral } from "../amd/collateral.ts";
import type { AmdRoot } from "../amd/roots.ts";
import type { ErrorCode } from "../errors.ts";
import { der, integer, sequence } from "../pki/der-writer.ts";
import { now, times } from "./evidence.ts";

export interface SnpRefusal {
  name: string;
  code: ErrorCode;
  product?: AmdHierarchy["product"];
  kind?: AmdHierarchy["kind"];
  /** Changes what is signed. */
  before?: (h: AmdHierarchy) => void;
  /** Changes the report's bytes before it is signed, and after. */
  patch?: (bytes: Uint8Array) => void;
  report?: (bytes: Uint8Array) => Uint8Array;
  collateral?: (collateral: AmdMinted["collateral"], h: AmdHierarchy) => AmdCollateral;
  now?: Date;
  roots?: readonly AmdRoot[];
}

const after = (date: Date, ms: number) => new Date(date.getTime() + ms);
const second = 1000;
const setExtension = (spec: AmdHierarchy["endorsement"], oid: string, value: Uint8Array) => {
  for (const extension of spec.extensions) if (extension.oid === oid) extension.value = value;
};
const without = (spec: { extensions: { oid: string }[] }, oid: string) => {
  spec.extensions = spec.extensions.filter((extension) => extension.oid !== oid) as never;
};
const amd = "1.3.6.1.4.1.3704.1";
const set =
  (offset: number, ...values: number[]) =>
  (bytes: Uint8Array) =>
    bytes.set(values, offset);
const flip = (offset: number) => (bytes: Uint8Array) => {
  const copy = Uint8Array.from(bytes);
  copy[offset < 0 ? copy.length + offset : offset]! ^= 1;
  return copy;
};
const { bootLoader: _, ...milanTcb } = { bootLoader: 4, tee: 0, snp: 24, microcode: 219 };
const tcbOf = (bootLoader: number) => tcbBytes({ ...milanTcb, bootLoader }, "Milan");

const ofReport: SnpRefusal[] = [
  { name: "a report that is cut", code: "snp/size", report: (r) => r.slice(0, -1) },
  { name: "a report with a byte more", code: "snp/size", report: (r) => Uint8Array.from([...r, 0]) },
  { name: "version 1", code: "snp/version", before: (h) => (h.report.version = 1) },
  { name: "version 6", code: "snp/version", before: (h) => (h.report.version = 6) },
  {
    name: "another signature algorithm",
    code: "snp/algorithm",
    before: (h) => (h.report.signatureAlgorithm = 2),
  },
  {
    name: "a reserved policy bit",
    code: "snp/reserved",
    before: (h) => (h.report.policy = 0x30000n | (1n << 26n)),
  },
  { name: "policy bit 17 clear", code: "snp/reserved", before: (h) => (h.report.policy = 0x10000n) },
  {
    name: "a reserved bit of the platform",
    code: "snp/reserved",
    before: (h) => (h.report.platformInfo = 1n << 8n),
  },
  { name: "a reserved bit of the key", code: "snp/reserved", before: (h) => (h.report.keyInfo = 1 << 5) },
  { name: "reserved bytes at 0x4c", code: "snp/reserved", patch: set(0x4c, 1) },
  { name: "reserved bytes behind the processor", code: "snp/reserved", patch: set(0x18b, 1) },
  {
    name: "a processor in version 2",
    code: "snp/reserved",
    before: (h) => (h.report.version = 2),
    patch: set(0x188, 0x19),
  },
  { name: "reserved bytes behind the firmware", code: "snp/reserved", patch: set(0x1eb, 1) },
  { name: "reserved bytes behind the committed firmware", code: "snp/reserved", patch: set(0x1ef, 1) },
  {
    name: "mitigations in version 4",
    code: "snp/reserved",
    before: (h) => (h.report.version = 4),
    patch: set(0x1f8, 1),
  },
  {
    name: "reserved bytes behind the mitigations",
    code: "snp/reserved",
    before: (h) => (h.report.version = 5),
    patch: set(0x208, 1),
  },
  { name: "the last reserved byte", code: "snp/reserved", patch: set(0x29f, 1) },
  { name: "high bytes of R", code: "snp/reserved", report: (r) => flip(0x2a0 + 48)(r) },
  { name: "high bytes of S", code: "snp/reserved", report: (r) => flip(0x2a0 + 72 + 71)(r) },
  { name: "bytes behind the signature", code: "snp/reserved", report: flip(-1) },
  { name: "a privilege level that does not exist", code: "snp/vmpl", before: (h) => (h.report.vmpl = 4) },
  {
    name: "a signing key that does not exist",
    code: "snp/signing-key",
    before: (h) => (h.report.keyInfo = 2 << 2),
  },
  { name: "no signing key", code: "snp/unsigned", before: (h) => (h.report.keyInfo = 7 << 2) },
  { name: "a masked chip key", code: "snp/unsigned", before: (h) => (h.report.keyInfo = 2) },
  {
    name: "a masked chip id",
    code: "snp/chip-id-masked",
    before: (h) => (h.report.chipId = "00".repeat(64)),
  },
  { name: "a changed measurement", code: "snp/signature", report: flip(0x90) },
  { name: "a changed signature", code: "snp/signature", report: flip(0x2a0) },
  { name: "another key's signature", code: "snp/signature", before: (h) => (h.endorsementKey = p384Key()) },
];

const ofEndorsement: SnpRefusal[] = [
  { name: "no product", code: "snp/extension", before: (h) => without(h.endorsement, `${amd}.2`) },
  {
    name: "another product",
    code: "snp/extension",
    before: (h) => setExtension(h.endorsement, `${amd}.2`, der(0x16, Buffer.from("Milano"))),
  },
  { name: "no microcode level", code: "snp/extension", before: (h) => without(h.endorsement, `${amd}.3.8`) },
  {
    name: "a reserved level",
    code: "snp/extension",
    before: (h) => setExtension(h.endorsement, `${amd}.3.4`, integer(1)),
  },
  {
    name: "an FMC level on Milan",
    code: "snp/extension",
    before: (h) => h.endorsement.extensions.push({ oid: `${amd}.3.9`, value: integer(1) }),
  },
  {
    name: "neither chip nor provider",
    code: "snp/extension",
    before: (h) => without(h.endorsement, `${amd}.4`),
  },
  {
    name: "chip and provider",
    code: "snp/extension",
    before: (h) => h.endorsement.extensions.push({ oid: `${amd}.5`, value: der(0x16, Buffer.from("CN=x")) }),
  },
  {
    name: "a short hardware id",
    code: "snp/extension",
    before: (h) => setExtension(h.endorsement, `${amd}.4`, new Uint8Array(63)),
  },
  {
    name: "a hardware id with more behind it",
    code: "snp/extension",
    before: (h) => setExtension(h.endorsement, `${amd}.4`, Uint8Array.from([4, 64, ...new Uint8Array(65)])),
  },
  {
    name: "a level in two spellings",
    code: "der/malformed",
    before: (h) => setExtension(h.endorsement, `${amd}.3.1`, Uint8Array.from([2, 2, 0, 4])),
  },
  {
    name: "a product that the processor is not",
    code: "snp/product",
    before: (h) => (h.report.cpu = [0x19, 0x11, 0]),
  },
  {
    name: "a processor that is not known",
    code: "snp/product",
    before: (h) => (h.report.cpu = [0x1b, 0, 0]),
  },
  {
    name: "a VLEK's report with a VCEK",
    code: "snp/endorsement-kind",
    before: (h) => (h.report.keyInfo = 1 << 2),
  },
  {
    name: "a VCEK's report with a VLEK",
    code: "snp/endorsement-kind",
    kind: "vlek",
    before: (h) => (h.report.keyInfo = 0),
  },
  {
    name: "a lower reported level than certified",
    code: "snp/reported-tcb",
    before: (h) => (h.report.reportedTcb = tcbOf(3)),
  },
  {
    name: "a higher reported level than certified",
    code: "snp/reported-tcb",
    before: (h) => (h.report.reportedTcb = tcbOf(5)),
  },
  {
    name: "Turin's layout on Milan",
    code: "snp/reported-tcb",
    before: (h) =>
      (h.report.reportedTcb = tcbBytes({ fmc: 3, bootLoader: 4, snp: 24, microcode: 219 }, "Turin")),
  },
  {
    name: "a current level in another layout",
    code: "snp/tcb-layout",
    before: (h) => (h.report.currentTcb = Uint8Array.of(4, 0, 0, 24, 0, 0, 0, 219)),
  },
  {
    name: "another chip",
    code: "snp/chip-id",
    before: (h) => (h.report.chipId = `01${h.report.chipId.slice(2)}`),
  },
  {
    name: "a Turin whose other bytes are not zero",
    code: "snp/chip-id",
    product: "Turin",
    before: (h) => (h.report.chipId = `${h.report.chipId.slice(0, 126)}01`),
  },
];

const authorities = ["ark", "ask"] as const;
const ofChain: SnpRefusal[] = [
  { name: "no certificate", code: "collateral/missing", collateral: ({ endorsement: _, ...rest }) => rest },
  { name: "no chain", code: "collateral/missing", collateral: ({ chain: _, ...rest }) => rest },
  { name: "a chain of one", code: "chain/length", collateral: (c) => ({ ...c, chain: c.chain.slice(0, 1) }) },
  {
    name: "a chain the wrong way round",
    code: "chain/untrusted-root",
    collateral: (c) => ({ ...c, chain: [...c.chain].reverse() }),
  },
  { name: "AMD's own roots alone", code: "chain/untrusted-root", roots: [] },
  {
    name: "a root of another product",
    code: "chain/untrusted-root",
    before: (h) => {
      h.report.cpu = [0x19, 0x11, 0];
      setExtension(h.endorsement, `${amd}.2`, der(0x16, Buffer.from("Genoa")));
    },
  },
  {
    name: "a cut certificate",
    code: "der/malformed",
    collateral: (c) => ({ ...c, endorsement: c.endorsement.slice(0, -1) }),
  },
  ...[...authorities, "endorsement" as const].flatMap((part): SnpRefusal[] => [
    {
      name: `${part} expired`,
      code: "chain/expired",
      before: (h) => (h[part].notAfter = after(now, -second)),
    },
    {
      name: `${part} not yet valid`,
      code: "chain/not-yet-valid",
      before: (h) => (h[part].notBefore = after(now, second)),
    },
    {
      name: `${part} of another name`,
      code: part === "ark" ? "chain/name" : "chain/name",
      before: (h) => (h[part].subject = "SEV-Something"),
    },
    {
      name: `${part} by another issuer`,
      code: "chain/issuer",
      before: (h) => (h[part].issuer = "SEV-Other"),
    },
    {
      name: `${part} signed by another key`,
      code: "chain/signature",
      before: (h) => (h[part].issuerKey = rsaKey(part === "endorsement" ? 0 : 1)),
    },
    {
      name: `${part} with a salt of 32 bytes`,
      code: "certificate/malformed",
      before: (h) => Object.assign(h[part], { algorithm: pssAlgorithm({ salt: 32 }), saltLength: 32 }),
    },
    {
      name: `${part} that says 48 and signs with 32`,
      code: "chain/signature",
      before: (h) => (h[part].saltLength = 32),
    },
    {
      name: `${part} with SHA-256`,
      code: "certificate/malformed",
      before: (h) => (h[part].algorithm = pssAlgorithm({ hash: "2.16.840.1.101.3.4.2.1" })),
    },
    {
      name: `${part} with a critical extension`,
      code: "chain/extension",
      before: (h) => h[part].extensions.push({ oid: "1.2.3.4", critical: true, value: der(5) }),
    },
  ]),
  ...authorities.flatMap((part): SnpRefusal[] => [
    {
      name: `${part} without a key usage`,
      code: "chain/extension",
      before: (h) => without(h[part], "2.5.29.15"),
    },
    {
      name: `${part} that is not a CA`,
      code: "chain/constraints",
      before: (h) => setExtension(h[part], "2.5.29.19", sequence()),
    },
    {
      name: `${part} that may not sign`,
      code: "chain/key-usage",
      before: (h) => setExtension(h[part], "2.5.29.15", Uint8Array.of(3, 2, 7, 0x80)),
    },
    { name: `${part} with a P-384 key`, code: "chain/key", before: (h) => (h[part].key = p384Key()) },
  ]),
  {
    name: "an intermediate of another issuer key",
    code: "chain/issuer",
    before: (h) => setExtension(h.ask, "2.5.29.35", sequence(der(0x80, new Uint8Array(20)))),
  },
  {
    name: "a VLEK under the VCEKs' ASK",
    code: "chain/name",
    kind: "vlek",
    before: (h) => {
      h.ask.subject = "SEV-Milan";
      h.endorsement.issuer = "SEV-Milan";
    },
  },
  {
    name: "an endorsement with an RSA key",
    code: "chain/key",
    before: (h) => (h.endorsement.key = rsaKey(0)),
  },
];

const ofCrl: SnpRefusal[] = [
  { name: "no list", code: "crl/missing", collateral: ({ crl: _, ...rest }) => rest },
  {
    name: "the intermediate revoked",
    code: "certificate/revoked",
    before: (h) => h.crl.revoked.push(h.ask.serial),
  },
  { name: "the root revoked", code: "certificate/revoked", before: (h) => h.crl.revoked.push(h.ark.serial) },
  {
    name: "a list that expired",
    code: "crl/expired",
    before: (h) => (h.crl.nextUpdate = after(now, -second)),
  },
  {
    name: "a list not yet valid",
    code: "crl/not-yet-valid",
    before: (h) => (h.crl.thisUpdate = after(now, second)),
  },
  { name: "a list of another issuer", code: "crl/issuer", before: (h) => (h.crl.issuer = "ARK-Genoa") },
  { name: "a list signed by the ASK", code: "crl/signature", before: (h) => (h.crl.issuerKey = rsaKey(1)) },
  {
    name: "a list of another issuer key",
    code: "crl/issuer",
    before: (h) =>
      h.crl.extensions.push({ oid: "2.5.29.35", value: sequence(der(0x80, new Uint8Array(20))) }),
  },
  {
    name: "a list with a critical extension",
    code: "crl/extension",
    before: (h) => h.crl.extensions.push({ oid: "2.5.29.28", critical: true, value: sequence() }),
  },
  {
    name: "a list that is cut",
    code: "der/malformed",
    collateral: (c) => ({ ...c, crl: c.crl.slice(0, -1) }),
  },
];

export const snpRefusals: readonly SnpRefusal[] = [...ofReport, ...ofEndorsement, ...ofChain, ...ofCrl];

/** Evidence with the case's one change, and what judges it. */
export function buildSnp(change: Omit<SnpRefusal, "name" | "code">): {
  report: Uint8Array;
  collateral: AmdCollateral;
  roots: readonly AmdRoot[];
  now: Date;
  h: AmdHierarchy;
} {
  const h = amdHierarchy(change.product ?? "Milan", times, change.kind);
  change.before?.(h);
  const minted = mintAmd(h);
  const report = issueReport(h, change.patch);
  return {
    report: change.report === undefined ? report : change.report(report),
    collateral: change.collateral === undefined ? minted.collateral : change.collateral(minted.collateral, h),
    roots: change.roots ?? minted.roots,
    now: change.now ?? now,
    h,
  };
}
