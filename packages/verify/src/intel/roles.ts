// SPDX-License-Identifier: Apache-2.0
import { certSigner, keyUsage, type Role } from "../pki/x509.ts";

/** The four roles of Intel's hierarchy (SGX PCK Certificate and CRL Profile, sections 1.3.1 to 1.3.5). */
export const roles = {
  root: { names: ["Intel SGX Root CA"], ca: true, pathLength: 1, keyUsage: certSigner },
  pckCa: {
    names: ["Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA"],
    ca: true,
    pathLength: 0,
    keyUsage: certSigner,
  },
  pck: {
    names: ["Intel SGX PCK Certificate"],
    ca: false,
    keyUsage: keyUsage.digitalSignature,
    ofOnePlatform: true,
  },
  tcbSigner: { names: ["Intel SGX TCB Signing"], ca: false, keyUsage: keyUsage.digitalSignature },
} as const satisfies Record<string, Role>;
