// SPDX-License-Identifier: Apache-2.0
/**
 * Production trust is the key of Intel's SGX root CA, which signs all of Intel's attestation collateral. A key is
 * pinned rather than a certificate, because the certificate in a quote comes from the host.
 */
import { fromHex } from "@caisson/vocabulary/bytes";
import type { TrustAnchor } from "../pki/chain.ts";

/** "Intel SGX Root CA" (certificates.trustedservices.intel.com/IntelSGXRootCA.der), valid to 2049-12-31. */
export const intelRoot: TrustAnchor = Object.freeze({
  name: "Intel SGX Root CA",
  rootKey: fromHex(
    "04" +
      "0ba9c4c0c0c86193a3fe23d6b02cda10a8bbd4e88e48b4458561a36e705525f5" +
      "67918e2edc88e40d860bd0cc4ee26aacc988e505a953558c453f6b0904ae7394",
  )!,
});
