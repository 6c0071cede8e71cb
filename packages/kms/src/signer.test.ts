// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { identityKey } from "@caisson/protocol/ed25519";
import { batchLimit, isSigned, type Signed } from "@caisson/protocol/key-release";
import { text } from "@caisson/vocabulary/frame";
import { Signer } from "./signer.ts";

const identity = identityKey(new Uint8Array(32).fill(9));
const transcripts = (count: number) => Array.from({ length: count }, (_, i) => text(`transcript ${i}`));

/** A signer, and how often it used the key. */
function counted() {
  let signatures = 0;
  const sign = (message: Uint8Array) => {
    signatures += 1;
    return identity.sign(message);
  };
  return { signer: new Signer({ ...identity, sign }), signatures: () => signatures };
}

test("what comes alone is signed as ever", async () => {
  const [one] = transcripts(1);
  deepEqual(await new Signer(identity).sign(one!), { signature: identity.sign(one!).toHex() });
});

for (const [count, signatures] of [
  [2, 1],
  [3, 1],
  [64, 1],
  [batchLimit, 1],
  [batchLimit + 1, 2],
  [2 * batchLimit + 5, 3],
] as const) {
  test(`${count} of one turn are signed ${signatures} times, and each is what was signed`, async () => {
    const { signer, signatures: used } = counted();
    const all = transcripts(count);
    const signed = await Promise.all(all.map((transcript) => signer.sign(transcript)));
    equal(used(), signatures);
    for (const [i, by] of signed.entries()) {
      ok(await isSigned(identity.publicKey, all[i]!, by), `${i}`);
      equal(await isSigned(identity.publicKey, all[(i + 1) % count]!, by), false, `${i}`);
    }
  });
}

test("each turn is signed for itself, though nobody asks again", async () => {
  const { signer, signatures } = counted();
  const all: Signed[] = [];
  for (const transcript of transcripts(3)) all.push(await signer.sign(transcript));
  equal(signatures(), 3);
  ok(all.every(({ batch }) => batch === undefined));
});
