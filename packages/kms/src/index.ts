// SPDX-License-Identifier: Apache-2.0
/** The key management service: verifies guests and releases their keys. docs/key-release.md describes it. */
export { askKms, get, type JudgedKms } from "./attestation.ts";
export { decryptBackup, encryptBackup } from "./backup.ts";
export { checkpointKey, checkWitnessed, witnessReleaseLog } from "./checkpoint.ts";
export { KmsError, type KmsErrorCode } from "./errors.ts";

export type { LogToFollow } from "./followed-log.ts";
export {
  type OperatorRequest,
  type Operators,
  operatorEnvelope,
  operatorRequest,
  readOperators,
  sendRequest,
} from "./operator-request.ts";
export { askHead } from "./peer-heads.ts";
export { takeRoot } from "./root-handover.ts";
export {
  createRootSecret,
  dataFiles,
  kmsIdentity,
  openRecoveryKey,
  openRootSecret,
  refuseRootSecret,
  storeRootSecret,
} from "./root-secret.ts";
export { type RootDates, type Rotation, readRoots, rotateRoot } from "./roots.ts";
export { type Kms, type KmsOptions, startKms } from "./server.ts";
export {
  makeShares,
  passShare,
  publishShares,
  readShares,
  recoverSecret,
  type SharesDocument,
  sharesPath,
} from "./shares.ts";
export type { Backend } from "./store/backend.ts";
export type { LogEntry, LogHead } from "./store/entries.ts";
export { openLogStore } from "./store/open.ts";
export { postgresql } from "./store/postgresql.ts";
export { readOnlySqlite, sqlite } from "./store/sqlite.ts";
export { openStore, type Store, type StoreKeys, storeKeys } from "./store/store.ts";
export { type LogReport, verifyReleaseLog } from "./store/verify.ts";
export { type Opened, openVolumeBook, VolumeBook } from "./volumes/book.ts";
export type { OperatorAction, VolumeRecord } from "./volumes/rules.ts";
export { readClosed } from "./writers.ts";
