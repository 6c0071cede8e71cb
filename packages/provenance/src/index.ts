// SPDX-License-Identifier: Apache-2.0
/** Who built a released image, by bundles of Sigstore. */
export { judgeProvenance } from "./provenance.ts";
