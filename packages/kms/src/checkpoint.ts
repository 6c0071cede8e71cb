// SPDX-License-Identifier: Apache-2.0
/**
 * Checkpoints of the release log, of the same kind as those of a log of releases (https://c2sp.org/tlog-checkpoint): the
 * tree over its entries' hashes, signed with the KMS's identity, and cosigned by witnesses. Who has one sees later that the
 * log's end was not cut off together with its head, which its own chain cannot show.
 */
import { askWitnesses, Frontier, leafOf, type WitnessAddress } from "@caisson/log";
import type { IdentityKey } from "@caisson/protocol/ed25519";
import {
  type Checkpoint,
  consistencyProof,
  type NoteKey,
  nodeHash,
  readNote,
  type TrustPolicy,
  verifyCheckpoint,
  writeCheckpoint,
  writeSignature,
} from "@caisson/releases";
import { equal, toHex } from "@caisson/vocabulary/bytes";
import { text as utf8 } from "@caisson/vocabulary/frame";
import { KmsError } from "./errors.ts";
import type { Backend } from "./store/backend.ts";
import { verifyReleaseLog } from "./store/verify.ts";

/** Under which name and key a KMS signs its checkpoints; witnesses and policies are given it. */
export const checkpointKey = (identity: Uint8Array): NoteKey => ({
  name: `caisson/kms/${toHex(identity)}`,
  kind: "note",
  key: identity,
});

type Log = Pick<Backend, "name" | "look" | "close">;

/** Leaves of a whole log that this KMS wrote. Closes it. Throws KmsError `log/…`. */
async function leavesOf(log: Log, identity: Uint8Array): Promise<Uint8Array[]> {
  const leaves: Uint8Array[] = [];
  await verifyReleaseLog(log, { identity: toHex(identity) }, (_, { hash }) => void leaves.push(leafOf(hash)));
  return leaves;
}

function rootOf(leaves: readonly Uint8Array[]): Uint8Array {
  const frontier = new Frontier();
  for (const leaf of leaves) frontier.add(leaf);
  return frontier.root();
}

/** The newest checkpoint, with the cosignatures of those witnesses that gave one. */
export async function witnessReleaseLog(
  log: Log,
  identity: IdentityKey,
  witnesses: readonly WitnessAddress[],
): Promise<{ checkpoint: Checkpoint; note: string; cosigned: number }> {
  const leaves = await leavesOf(log, identity.publicKey);
  const key = checkpointKey(identity.publicKey);
  const checkpoint = { origin: key.name, size: leaves.length, root: rootOf(leaves) };
  const text = writeCheckpoint(checkpoint);
  const note = `${text}\n${await writeSignature(key, identity.sign(utf8(text)))}`;
  const read = async (height: number, index: number): Promise<Uint8Array> =>
    height === 0
      ? leaves[index]!
      : nodeHash(await read(height - 1, 2 * index), await read(height - 1, 2 * index + 1));
  const consistency = async (first: number, second: number) =>
    first === 0 ? [] : consistencyProof(read, first, second);
  const lines = await askWitnesses(witnesses, note, consistency);
  return { checkpoint, note: note + lines.join(""), cosigned: lines.length };
}

/**
 * That a log goes on from a checkpoint that was witnessed. Closes it. Throws KmsError "log/head" where it does not, `log/…`;
 * ReleaseError for a checkpoint that the policy does not believe.
 */
export async function checkWitnessed(
  log: Log,
  identity: Uint8Array,
  note: string,
  policy: TrustPolicy,
  now: number,
): Promise<Checkpoint> {
  const { checkpoint } = await verifyCheckpoint(readNote(note), policy, now);
  const leaves = await leavesOf(log, identity);
  if (leaves.length >= checkpoint.size && equal(rootOf(leaves.slice(0, checkpoint.size)), checkpoint.root)) {
    return checkpoint;
  }
  throw new KmsError("log/head", `${log.name} does not go on from the witnessed checkpoint`, {
    facts: [
      ["witnessed", `${checkpoint.size} entries`],
      ["found", `${leaves.length} entries`],
    ],
  });
}
