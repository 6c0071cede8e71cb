// SPDX-License-Identifier: Apache-2.0
/** Object identifiers of the SGX extension of a PCK certificate (SGX PCK Certificate and CRL Profile, section 1.3.5). */
import { knowOids } from "../pki/oids.ts";

const extension = "1.2.840.113741.1.13.1";

export const sgxOids = {
  extension,
  ppid: `${extension}.1`,
  tcb: `${extension}.2`,
  pceId: `${extension}.3`,
  fmspc: `${extension}.4`,
  type: `${extension}.5`,
  piid: `${extension}.6`,
} as const;

/** The fields of the extension's TCB: SVNs of the 16 components, PCE SVN, CPU SVN. */
export const sgxTcbOids: readonly string[] = Array.from({ length: 18 }, (_, i) => `${sgxOids.tcb}.${i + 1}`);

knowOids([...Object.values(sgxOids), ...sgxTcbOids]);
