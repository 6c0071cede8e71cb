// SPDX-License-Identifier: Apache-2.0
/** What a guest sends for its keys, and what it reads from the answer, without HTTP. */
import { generateSealingKey, open, type SealBinding, type SealingKey } from "@caisson/protocol/hpke";
import {
  type Answer,
  answerTranscript,
  type Exchange,
  keyReleaseVersion,
  type ReleaseRequest,
  sealContext,
  isSigned as signedBy,
} from "@caisson/protocol/key-release";
import { reportData } from "@caisson/verify/report-data";
import type { ReleaseContext } from "../release.ts";
import type { Machine, MachineState } from "./machine.ts";

export interface Asked {
  request: ReleaseRequest;
  exchange: Exchange;
  /** Of the guest, for this exchange alone. */
  pair: SealingKey;
}

/** What a guest would send to this KMS; `quoted` changes what its report data binds. */
export async function askingFor(
  machine: Machine,
  state: MachineState,
  { identity, nonces, now }: Pick<ReleaseContext, "identity" | "nonces" | "now">,
  quoted: (exchange: Exchange) => Exchange = (exchange) => exchange,
): Promise<Asked> {
  const pair = generateSealingKey();
  const { publicKey } = pair;
  const exchange = { nonce: nonces.issue(now()), identityKey: identity.publicKey, ephemeralKey: publicKey };
  const { nonce, identityKey: kmsIdentityKey, ephemeralKey } = quoted(exchange);
  const data = await reportData(keyReleaseVersion, { nonce, kmsIdentityKey, ephemeralKey });
  const request: ReleaseRequest = {
    version: keyReleaseVersion,
    nonce: exchange.nonce.toHex(),
    ephemeralKey: publicKey.toHex(),
    evidence: await machine.evidence(state, data),
  };
  return { request, exchange, pair };
}

/** Whether the KMS of this exchange signed the answer. */
export const isSigned = (answer: Answer, exchange: Exchange): Promise<boolean> =>
  signedBy(exchange.identityKey, answerTranscript(exchange, answer), answer);

/** What is in a seal of an answer. Throws if it is not for this key and context. */
export function unseal(
  pair: SealingKey,
  { enc, ciphertext }: { enc: string; ciphertext: string },
  context: SealBinding,
): Uint8Array {
  return open(pair, { enc: Uint8Array.fromHex(enc), ciphertext: Uint8Array.fromHex(ciphertext) }, context);
}

/** The keys of an answer. Throws if it has none. */
export function keysIn(answer: Answer, { exchange, pair }: Pick<Asked, "exchange" | "pair">): Uint8Array {
  if (answer.outcome === "denied") throw new Error(answer.message);
  return unseal(pair, answer.sealed, sealContext(exchange, answer));
}
