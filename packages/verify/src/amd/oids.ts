// SPDX-License-Identifier: Apache-2.0
/** Object identifiers of AMD's certificates. */
import { oids } from "../pki/oids.ts";

/** Extensions of a VCEK or VLEK (AMD 57230, VCEK certificate). */
const amd = "1.3.6.1.4.1.3704.1";

export const amdOids = {
  productName: `${amd}.2`,
  spl: `${amd}.3`,
  hardwareId: `${amd}.4`,
  provider: `${amd}.5`,
} as const;

/** Extensions of ARK, ASK and ASVK. */
export const authorityExtensions: readonly string[] = [
  oids.subjectKeyIdentifier,
  oids.keyUsage,
  oids.basicConstraints,
];
