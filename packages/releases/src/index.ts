// SPDX-License-Identifier: Apache-2.0
/**
 * Identities, releases and what proves that they were logged. Pure: no file, no network, no clock, no memory; runs in
 * Node and in browsers.
 */

export { leafHash, nodeHash, verifyConsistency, verifyInclusion } from "@caisson/vocabulary/merkle";
export { type Application, advance, beginApplication } from "./application.ts";
export {
  type AcceptedRelease,
  type Bundle,
  type BundleJudgement,
  bundleVersion,
  judgeBundle,
  readBundle,
  writeBundle,
} from "./bundle.ts";
export { readCanonical, writeCanonical } from "./canonical.ts";
export {
  type Envelope,
  payloadOf,
  readEnvelope,
  signedBytes,
  signersOf,
  writeEnvelope,
} from "./envelope.ts";
export { type ReleaseCode, ReleaseError } from "./errors.ts";
export {
  followIdentity,
  type Identity,
  type IdentityDocument,
  identityPayloadType,
  identityVersion,
  type KeySet,
  readIdentity,
  requireSigners,
} from "./identity.ts";
export { type KeyType, lowForm, type PublicKey, publicKeySchema } from "./keys.ts";
export { type Checkpoint, readCheckpoint, writeCheckpoint } from "./log/checkpoint.ts";
export { type EntryKind, entryKinds, type LogEntry, logEntry, readLogEntry } from "./log/entry.ts";
export {
  cosignedText,
  type Note,
  type NoteKey,
  type NoteSigner,
  readNote,
  readNoteKey,
  signersOfNote,
  writeNoteKey,
  writeSignature,
} from "./log/note.ts";
export { isQuorum, readTrustPolicy, type TrustPolicy } from "./log/policy.ts";
export {
  checkAge,
  type Logged,
  type LogProof,
  readProof,
  verifyCheckpoint,
  verifyLogged,
  writeProof,
} from "./log/proof.ts";
export {
  consistencyProof,
  entryLimit,
  type HashReader,
  hashesOfTiles,
  inclusionProof,
  readEntries,
  readHashes,
  type TileReader,
  tilePath,
  tileWidth,
  treeRoot,
  writeEntries,
} from "./log/tiles.ts";
export {
  checkSuccessor,
  type Demands,
  emptyFloor,
  type Floor,
  type Followed,
  judgeRelease,
  type Measured,
  type ReleaseJudgement,
  raiseFloor,
  revoke,
} from "./release.ts";
export {
  judgeSecrets,
  readSecrets,
  readSecretsDocument,
  type Secrets,
  type SecretsDocument,
  type SecretsJudgement,
  sealBinding,
  secretsPayloadType,
  secretsVersion,
  writeSecrets,
} from "./secrets.ts";
export {
  predicateTypes,
  readStatement,
  type Statement,
  statementPayloadType,
  writeStatement,
} from "./statement.ts";
