// SPDX-License-Identifier: Apache-2.0
/**
 * Is it genuine? Whether AMD vouches for the key that signed a SEV-SNP report, and for which chip and patch levels.
 *
 * Steps: read the report; read the certificates; the chain up to the pinned root of the product; that the certificate is
 * the one for this report's chip and reported levels; the report's signature; that nothing above it was revoked. AMD has no
 * list of levels that are good enough: what is, only a policy can say.
 */
import { equal, isZero, toHex } from "@caisson/vocabulary/bytes";
import { importP384, verifyP384 } from "#crypto";
import { VerifyError } from "../errors.ts";
import { checkNotRevoked } from "../pki/crl.ts";
import type { Certificate } from "../pki/x509.ts";
import { Answers } from "../report.ts";
import {
  type AmdAuthorities,
  type EndorsementKind,
  parseAmdCrl,
  parseAuthority,
  parseEndorsement,
  verifyAmdCrl,
  verifyChain,
} from "./certificates.ts";
import type { AmdCollateral } from "./collateral.ts";
import { type Endorsement, readEndorsement } from "./endorsement.ts";
import { type Product, productOf, readTcb, type Tcb, tcbComponents, tcbText } from "./products.ts";
import { parseReport, type SnpReport, type TcbKind, tcbKinds } from "./report.ts";
import { type AmdRoot, amdRoots } from "./roots.ts";

/** A report that is genuine, and what AMD says about where it comes from. */
export interface GenuineSnp {
  readonly report: SnpReport;
  readonly product: Product;
  readonly signedBy: EndorsementKind;
  readonly endorsement: Endorsement;
  readonly tcb: Readonly<Record<TcbKind, Tcb>>;
  readonly root: AmdRoot;
  /** When the first certificate or list expires on which this rests; milliseconds since 1970. */
  readonly validUntil: number;
}

export interface SnpTrust {
  /** In place of AMD's (tests). */
  roots?: readonly AmdRoot[];
  /** "any": a missing list of revocations is left open, by name. A list that is there is judged in any case. */
  revocation?: "any";
}

/**
 * Verifies a report at the time `now`.
 * @throws VerifyError of kind "rejected", whose code says which check failed
 */
export async function verifyReport(
  bytes: Uint8Array,
  collateral: AmdCollateral,
  now: Date,
  { roots = amdRoots, revocation }: SnpTrust = {},
  answers: Answers = new Answers(),
): Promise<GenuineSnp> {
  const at = now.getTime();
  const report = parseReport(bytes);
  const kind = signingKind(report);
  answers.pass("snp/format", { actual: `version ${report.version}, signed by a ${kind.toUpperCase()}` });

  answers.judging = "collateral";
  const certificate = parseEndorsement(
    need(collateral.endorsement, `${kind.toUpperCase()} certificate`, whoHas[kind]),
  );
  const authorities = readAuthorities(need(collateral.chain, "certificates above it"));
  const crl = collateral.crl && parseAmdCrl(collateral.crl);
  const endorsement = readEndorsement(certificate);
  answers.judging = "quote";
  answers.pass("collateral/format");

  const product = productFor(report, endorsement);
  const root = await verifyChain(certificate, authorities, kindOf(endorsement), product, roots, at);
  answers.pass("chain/platform", { actual: `up to ${root.name}` });

  checkEndorsement(report, kind, endorsement);
  const tcb = readTcbs(report, product);
  answers.pass("snp/endorsement", { actual: `${endorsement.productName}, ${tcbText(tcb.reported)}` });

  await verifySignature(report, certificate);
  answers.pass("snp/signature");
  if (report.strange !== undefined) throw report.strange;

  let validUntil = Math.min(...[certificate, ...Object.values(authorities)].map(({ notAfter }) => notAfter));
  if (crl !== undefined) {
    await verifyAmdCrl(crl, authorities.root, at);
    checkNotRevoked(authorities.intermediate, crl);
    checkNotRevoked(authorities.root, crl);
    validUntil = Math.min(validUntil, crl.notAfter);
    answers.pass("chain/revocation");
  } else if (revocation === "any") {
    answers.notChecked("chain/revocation", "there is no list of revocations, and the policy leaves it open");
  } else {
    throw new VerifyError("crl/missing", "there is no list of what AMD revoked", {
      fix: 'caisson collateral fetch EVIDENCE gets it; a policy may leave it open (snp.revocation: "any")',
    });
  }
  return { report, product, signedBy: kind, endorsement, tcb, root, validUntil };
}

/** What a report says of its platform by itself; before version 3 nothing. Throws VerifyError "snp/tcb-layout". */
export function seenInReport(report: SnpReport): Pick<GenuineSnp, "report"> & Partial<GenuineSnp> {
  const product = report.cpu && productOf(report.cpu);
  return { report, ...(product !== undefined && { product, tcb: readTcbs(report, product) }) };
}

const fetched = "caisson collateral fetch EVIDENCE gets it from AMD";
/** A VLEK is lent to a provider of machines, and AMD gives its certificate to nobody else. */
const whoHas: Record<EndorsementKind, string> = {
  vcek: fetched,
  vlek: "the guest has it from its provider: the table of certificates (auxblob) that comes with the report",
};

function need<T>(value: T | undefined, what: string, fix = fetched): T {
  if (value !== undefined) return value;
  throw new VerifyError("collateral/missing", `there is nothing to verify the report with: no ${what}`, {
    fix,
  });
}

function signingKind({ signingKey, chipId }: SnpReport): EndorsementKind {
  if (signingKey === "none") {
    throw new VerifyError("snp/unsigned", "this report is not signed: its host masks the chip's key");
  }
  if (signingKey === "vcek" && isZero(chipId)) {
    throw new VerifyError(
      "snp/chip-id-masked",
      "the host masks the chip's id, so that no certificate can be its own",
    );
  }
  return signingKey;
}

function readAuthorities(chain: readonly Uint8Array[]): AmdAuthorities {
  const [intermediate, root] = chain;
  if (intermediate === undefined || root === undefined || chain.length !== 2) {
    throw new VerifyError("chain/length", "two certificates lie above a VCEK or VLEK: ASK or ASVK, and ARK", {
      actual: `${chain.length}`,
    });
  }
  return { intermediate: parseAuthority(intermediate), root: parseAuthority(root) };
}

const kindOf = ({ hardwareId }: Endorsement): EndorsementKind => (hardwareId === undefined ? "vlek" : "vcek");

/** The product by what the report says of its processor; version 2 says nothing, and the certificate settles it. */
function productFor({ cpu }: SnpReport, { product }: Endorsement): Product {
  if (cpu === undefined) return product;
  const found = productOf(cpu);
  if (found !== product) {
    const { family, model, stepping } = cpu;
    throw new VerifyError("snp/product", "the certificate is another product's than the report", {
      expected:
        found ??
        `family ${family.toString(16)} model ${model.toString(16)} stepping ${stepping}, not known here`,
      actual: product,
    });
  }
  return product;
}

/** The report's four TCB versions in the product's layout. */
function readTcbs({ tcb }: SnpReport, product: Product): GenuineSnp["tcb"] {
  const entries = tcbKinds.map((kind) => {
    const read = readTcb(tcb[kind], product);
    if (read === undefined) {
      throw new VerifyError("snp/tcb-layout", `the ${kind} TCB version is not one of ${product}`, {
        actual: toHex(tcb[kind]),
      });
    }
    return [kind, read] as const;
  });
  return Object.fromEntries(entries) as Record<TcbKind, Tcb>;
}

/** Whether the certificate is for the key that signed this very report: its kind, its levels, its chip. */
function checkEndorsement(report: SnpReport, kind: EndorsementKind, endorsement: Endorsement): void {
  if (kindOf(endorsement) !== kind) {
    throw new VerifyError(
      "snp/endorsement-kind",
      "the certificate is not of the kind of key that signed the report",
      {
        expected: kind.toUpperCase(),
        actual: kindOf(endorsement).toUpperCase(),
      },
    );
  }
  const { product, tcb, hardwareId } = endorsement;
  const reported = readTcb(report.tcb.reported, product);
  if (reported === undefined || tcbComponents.some((name) => reported[name] !== tcb[name])) {
    throw new VerifyError("snp/reported-tcb", "the certificate is for other patch levels than the report's", {
      expected: reported === undefined ? toHex(report.tcb.reported) : tcbText(reported),
      actual: tcbText(tcb),
    });
  }
  if (hardwareId !== undefined && !equal(hardwareId, report.chipId)) {
    throw new VerifyError("snp/chip-id", "the certificate is another chip's", {
      expected: toHex(report.chipId),
      actual: toHex(hardwareId),
    });
  }
}

async function verifySignature({ signature, signed }: SnpReport, { publicKey }: Certificate): Promise<void> {
  const key = await importP384(publicKey);
  if (key === undefined || !(await verifyP384(key, signature, signed))) {
    throw new VerifyError("snp/signature", "the report is not signed by the key that the certificate names");
  }
}
