// SPDX-License-Identifier: Apache-2.0
/**
 * Wrong evidence: one wrong thing at a time, in evidence that is right otherwise, with the code that must refuse it.
 * Documents are signed after the change wherever that is possible, so that the one thing wrong is the only one.
 */
import { type RefusalCase, times } from "./evidence.ts";
import { certificates, pck } from "./refusals/certificates.ts";
import { chains } from "./refusals/chains.ts";
import { documents, signedJson, tcb } from "./refusals/collateral.ts";
import { crls } from "./refusals/crls.ts";
import { after, second } from "./refusals/edits.ts";
import { quotes } from "./refusals/quotes.ts";

const clock: RefusalCase[] = [
  {
    name: "everything is judged before it was issued",
    code: "chain/not-yet-valid",
    now: after(times.issued, -second),
  },
  { name: "everything is judged after it expired", code: "chain/expired", now: after(times.expires, second) },
];

export const refusals: readonly RefusalCase[] = [
  ...certificates,
  ...crls,
  ...chains,
  ...pck,
  ...signedJson,
  ...tcb,
  ...quotes,
  ...clock,
  ...documents,
];
