// SPDX-License-Identifier: Apache-2.0
/** The decisions as code: is this image, this running guest, this evidence really built that way? */
export { type Audit, audit, type Result, type Row, type Score, type Status } from "./audit.ts";
export { type Acceptance, parseBaseline } from "./baseline.ts";
export { catalogue, controlOf } from "./catalogue/index.ts";
export { collectImage, fetchLiveReport, readLiveReport, readReport } from "./collect.ts";
export { type CheckKind, type Control, type ControlCheck, checkKinds, type Facts, judge } from "./control.ts";
export { AuditError, type AuditErrorCode } from "./errors.ts";
export type { ImageFacts, LiveFacts, RemoteFacts } from "./facts.ts";
export { graph } from "./graph.ts";
export { graphSvg } from "./graph-svg.ts";
export type { Inventory } from "./inventory.ts";
export { parseLiveReport } from "./live.ts";
export { page } from "./page.ts";
export { type Provenance, type Subject, verdictLine } from "./provenance.ts";
export { collectRootTree, isRootTree } from "./root-tree.ts";
export { sarif } from "./sarif.ts";
export { explainControl, list, table } from "./table.ts";
