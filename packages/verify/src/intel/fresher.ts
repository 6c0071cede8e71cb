// SPDX-License-Identifier: Apache-2.0
/**
 * Whose collateral a quote is judged with, where the verifier has some and the evidence brings some: the verifier's
 * own, unless what the evidence brings is newer, verifies and is valid now. Who wrote the evidence chose what to bring,
 * so no part of it may be older than the verifier's: a new TCB info beside a list from before a revocation is not
 * newer.
 */
import { fromHex } from "@caisson/vocabulary/bytes";
import { SchemaError } from "@caisson/vocabulary/schema";
import { VerifyError } from "../errors.ts";
import type { TrustAnchor } from "../pki/chain.ts";
import { parseCrl } from "../pki/crl.ts";
import { type Collateral, VerifiedCollateral, verifyCollateral } from "./collateral.ts";
import { qeIdentitySchema, tcbInfoSchema } from "./tcb.ts";

/** When each part was made, and how high Intel numbers it, of which kind of platform; nothing is verified. */
function ages({ tcb_info, qe_identity, root_ca_crl, pck_crl }: Collateral): {
  of: string;
  ages: number[];
} {
  const [tcb, qe] = [tcbInfoSchema(JSON.parse(tcb_info)), qeIdentitySchema(JSON.parse(qe_identity))];
  const lists = [root_ca_crl, pck_crl].map((list) => parseCrl(fromHex(list)!).notBefore);
  const numbers = [tcb.tcbEvaluationDataNumber, qe.tcbEvaluationDataNumber];
  return { of: `${tcb.id} ${tcb.fmspc}`, ages: [tcb.issueDate, qe.issueDate, ...numbers, ...lists] };
}

function isNewer(brought: Collateral, own: Collateral): boolean {
  const [theirs, ours] = [ages(brought), ages(own)];
  const differences = theirs.ages.map((age, i) => age - ours.ages[i]!);
  return (
    theirs.of === ours.of &&
    differences.every((difference) => difference >= 0) &&
    differences.some((difference) => difference > 0)
  );
}

/**
 * What the evidence brings, verified, where it goes before `own`; else undefined. Collateral that is verified already is its
 * keeper's to renew (a KMS's), and stays as it is.
 */
export async function fresherThan(
  own: Collateral | VerifiedCollateral,
  brought: Collateral,
  now: Date,
  trust: TrustAnchor,
): Promise<VerifiedCollateral | undefined> {
  if (own instanceof VerifiedCollateral) return undefined;
  try {
    return isNewer(brought, own) ? await verifyCollateral(brought, now, trust) : undefined;
  } catch (error) {
    // Of either that cannot be read or does not verify: then the verifier's own says what is wrong.
    if (error instanceof VerifyError || error instanceof SyntaxError || error instanceof SchemaError)
      return undefined;
    throw error;
  }
}
