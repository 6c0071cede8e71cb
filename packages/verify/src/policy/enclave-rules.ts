// SPDX-License-Identifier: Apache-2.0
/** What an SGX enclave is, against a policy's `sgx` rules. */
import { isZero, toHex } from "@caisson/vocabulary/bytes";
import type { EnclaveReport } from "../intel/quote.ts";
import type { Answers } from "../report.ts";
import type { Policy } from "./policy.ts";

/**
 * Asks every SGX question. Which code runs must be said: by MRENCLAVE, or by its signer with product and least version
 * (a signer alone vouches for everything it ever signed).
 */
export function checkEnclave(report: EnclaveReport, policy: Policy, answers: Answers): void {
  const { mrEnclave, mrSigner, isvProdId, minimumIsvSvn } = policy.sgx ?? {};
  const attributes = { expected: "the debug bit zero", actual: toHex(report.attributes) };
  if ((report.attributes[0]! & 2) === 0) answers.pass("sgx/debug", attributes);
  else answers.fail("sgx/debug", attributes);

  // Chosen by the host at the start, as MRCONFIGID is: no policy can name values yet, so there may be none.
  if (!isZero(report.configId) || report.configSvn !== 0) {
    answers.fail("sgx/enclave", { expected: "CONFIGID and CONFIGSVN zero", actual: toHex(report.configId) });
  }
  const enclave = toHex(report.mrEnclave);
  if (mrEnclave?.includes(enclave)) answers.pass("sgx/enclave", { actual: enclave });
  else if (mrEnclave !== undefined) {
    answers.fail("sgx/enclave", { expected: mrEnclave.join(" or "), actual: enclave });
  } else if (mrSigner === undefined || isvProdId === undefined || minimumIsvSvn === undefined) {
    answers.fail("sgx/enclave-not-stated", {
      expected: "sgx.mrEnclave, or all of sgx.mrSigner, sgx.isvProdId and sgx.minimumIsvSvn",
      actual: enclave,
    });
  } else answers.notChecked("sgx/enclave", "the policy names the signer instead", { actual: enclave });

  const signer = toHex(report.mrSigner);
  const signed = `${signer}, product ${report.isvProdId}, SVN ${report.isvSvn}`;
  if (mrSigner === undefined && isvProdId === undefined && minimumIsvSvn === undefined) {
    answers.notChecked("sgx/signer", "the policy names the enclave instead", { actual: signed });
  } else if (mrSigner !== undefined && !mrSigner.includes(signer)) {
    answers.fail("sgx/signer", { expected: mrSigner.join(" or "), actual: signer });
  } else if (isvProdId !== undefined && report.isvProdId !== isvProdId) {
    answers.fail("sgx/product", { expected: `${isvProdId}`, actual: `${report.isvProdId}` });
  } else if (minimumIsvSvn !== undefined && report.isvSvn < minimumIsvSvn) {
    answers.fail("sgx/version", { expected: `at least ${minimumIsvSvn}`, actual: `${report.isvSvn}` });
  } else answers.pass("sgx/signer", { actual: signed });
}
