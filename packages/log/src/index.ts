// SPDX-License-Identifier: Apache-2.0
/** Transparency logs (C2SP tlog-tiles) of what application owners sign: who writes, who witnesses, who follows. */
export { addToLog, fetchLog, type LogSource, openLogDirectory } from "./client.ts";
export { LogServiceError, type LogServiceErrorCode } from "./errors.ts";
export { replaceFile, writerLock } from "./files.ts";
export {
  type Following,
  followLog,
  proveRelease,
  readFollowing,
  verifyLog,
  type Wanted,
  writeFollowing,
} from "./follow.ts";
export { type NoteSigningKey, noteSigner, noteSigningKey } from "./keys.ts";
export { type LogServer, serveLog, serveWitness } from "./server.ts";
export { Frontier, leafOf, wholeTree } from "./tree.ts";
export { askWitnesses, Witness, type WitnessAddress } from "./witness.ts";
export { LogWriter } from "./writer.ts";
