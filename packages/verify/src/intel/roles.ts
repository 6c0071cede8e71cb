// SPDX-License-Identifier: Apache-2.0

import { certSigner, type Role } from "../pki/chain.ts";
import { oids } from "../pki/oids.ts";
import { keyUsage } from "../pki/x509.ts";

/** Extensions of every certificate of Intel's hierarchy (PCK profile, 1.3; its library asks for the same). */
const extensions = [
  oids.authorityKeyIdentifier,
  oids.subjectKeyIdentifier,
  oids.keyUsage,
  oids.basicConstraints,
  oids.crlDistributionPoints,
];

/** The four roles of Intel's hierarchy (SGX PCK Certificate and CRL Profile, sections 1.3.1 to 1.3.5). */
export const roles = {
  root: { names: ["Intel SGX Root CA"], ca: true, pathLength: 1, keyUsage: certSigner, extensions },
  pckCa: {
    names: ["Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA"],
    ca: true,
    pathLength: 0,
    keyUsage: certSigner,
    extensions,
  },
  pck: {
    names: ["Intel SGX PCK Certificate"],
    ca: false,
    keyUsage: keyUsage.digitalSignature,
    extensions,
    ofOnePlatform: true,
  },
  tcbSigner: { names: ["Intel SGX TCB Signing"], ca: false, keyUsage: keyUsage.digitalSignature, extensions },
} as const satisfies Record<string, Role>;
