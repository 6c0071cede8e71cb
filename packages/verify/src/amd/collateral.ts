// SPDX-License-Identifier: Apache-2.0
/**
 * What AMD publishes for one report: the signing key's certificate, those above it, and the list of what was revoked. Nothing
 * of it is trusted: the root key is pinned, and everything below it is signed.
 */
import { fromHex } from "@caisson/vocabulary/bytes";
import { hex, type Infer, object, optional, SchemaError, text } from "@caisson/vocabulary/schema";
import { VerifyError } from "../errors.ts";
import { checkNotRevoked } from "../pki/crl.ts";
import { pemToDer } from "../pki/pem.ts";
import { parseAmdCrl, parseAuthority, parseEndorsement, verifyAmdCrl, verifyChain } from "./certificates.ts";
import { readEndorsement } from "./endorsement.ts";
import type { AmdRoot } from "./roots.ts";

const pem = text("PEM certificates, at most 64 kB", /^-----BEGIN CERTIFICATE-----/, 65536);

/** As `caisson collateral fetch` writes it. */
export const amdCollateralSchema = object({
  version: optional(text("caisson/amd-collateral/v1", /^caisson\/amd-collateral\/v1$/, 64)),
  /** The VCEK or VLEK. */
  endorsement: optional(pem),
  /** ASK or ASVK, then ARK. */
  chain: optional(pem),
  /** DER in hexadecimal: the list of the ARK. */
  crl: optional(hex([1, 1 << 20])),
});

export type AmdCollateralDocument = Infer<typeof amdCollateralSchema>;

/** DER of each part. */
export interface AmdCollateral {
  readonly endorsement?: Uint8Array;
  /** Intermediate, then root. */
  readonly chain?: readonly Uint8Array[];
  readonly crl?: Uint8Array;
}

/** Reads collateral from parsed JSON. Throws VerifyError "collateral/malformed", "pem/malformed". */
export function readAmdCollateral(document: unknown): AmdCollateral {
  let read: AmdCollateralDocument;
  try {
    read = amdCollateralSchema(document);
  } catch (error) {
    if (!(error instanceof SchemaError)) throw error;
    throw new VerifyError("collateral/malformed", `the collateral is malformed: ${error.message}`, {
      where: error.path || "the whole",
    });
  }
  const { endorsement, chain, crl } = read;
  const [certificate, ...more] = endorsement === undefined ? [] : pemToDer(endorsement);
  if (more.length > 0) {
    throw new VerifyError("collateral/malformed", "the collateral has more than one signing key", {
      where: "endorsement",
    });
  }
  return {
    ...(certificate && { endorsement: certificate }),
    ...(chain !== undefined && { chain: pemToDer(chain) }),
    ...(crl !== undefined && { crl: fromHex(crl)! }),
  };
}

/**
 * Verifies what does not depend on a report: the chain up to a root of the certificate's product, and the list. All three
 * parts must be there. Throws VerifyError.
 */
export async function verifyAmdCollateral(
  document: unknown,
  now: Date,
  roots: readonly AmdRoot[],
): Promise<AmdCollateral> {
  const collateral = readAmdCollateral(document);
  const [intermediate, root] = collateral.chain ?? [];
  if (collateral.endorsement === undefined || intermediate === undefined || root === undefined) {
    throw new VerifyError("collateral/missing", "a certificate of the chain is missing");
  }
  if (collateral.crl === undefined)
    throw new VerifyError("crl/missing", "there is no list of what AMD revoked");
  const certificate = parseEndorsement(collateral.endorsement);
  const { product, hardwareId } = readEndorsement(certificate);
  const authorities = { intermediate: parseAuthority(intermediate), root: parseAuthority(root) };
  const kind = hardwareId === undefined ? "vlek" : "vcek";
  await verifyChain(certificate, authorities, kind, product, roots, now.getTime());
  const crl = parseAmdCrl(collateral.crl);
  await verifyAmdCrl(crl, authorities.root, now.getTime());
  checkNotRevoked(authorities.intermediate, crl);
  checkNotRevoked(authorities.root, crl);
  return collateral;
}

/** Whether a text is collateral of AMD's: JSON that says so. */
export function isAmdCollateral(text: string): boolean {
  if (!/"caisson\/amd-collateral\/v1"/.test(text)) return false;
  try {
    return (JSON.parse(text) as { version?: unknown } | null)?.version === "caisson/amd-collateral/v1";
  } catch {
    return false;
  }
}

/**
 * Both together: what evidence brings fills in where the given collateral says nothing, and its list takes the place of
 * a given one that has expired, if it is not from before it.
 */
export const withEvidence = (
  given: AmdCollateral | undefined,
  brought: AmdCollateral | undefined,
  now: Date,
): AmdCollateral => ({
  ...brought,
  ...given,
  ...(isRenewed(given?.crl, brought?.crl, now) && { crl: brought!.crl! }),
});

function isRenewed(given: Uint8Array | undefined, brought: Uint8Array | undefined, now: Date): boolean {
  if (given === undefined || brought === undefined) return false;
  try {
    const [own, theirs] = [parseAmdCrl(given), parseAmdCrl(brought)];
    return own.notAfter < now.getTime() && theirs.notBefore >= own.notBefore;
  } catch (error) {
    if (!(error instanceof VerifyError)) throw error;
    return false;
  }
}
