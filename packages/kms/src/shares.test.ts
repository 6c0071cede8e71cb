// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import test from "node:test";
import { generateSealingKey, seal } from "@caisson/protocol/hpke";
import fc from "fast-check";
import { makeShares, passShare, readShares, recoverSecret } from "./shares.ts";

const secret = new Uint8Array(32).map((_, i) => i + 1);
const names = ["ada", "bob", "cleo", "dan"];
const keepers = names.map((name) => ({ name, own: generateSealingKey() }));
const list = keepers.map(({ name, own }) => ({ name, key: own.publicKey.toHex() }));
const document = await makeShares(secret, 3, list, 1_790_000_000_000);
const machine = generateSealingKey();
const to = machine.publicKey.toHex();
const passed = (name: string) =>
  JSON.stringify(passShare(document, name, keepers.find((one) => one.name === name)!.own, to));

test("any three of four give the secret again; two do not", async () => {
  await fc.assert(
    fc.asyncProperty(fc.shuffledSubarray(names, { minLength: 1 }), async (chosen) => {
      const recovered = recoverSecret(document, machine, chosen.map(passed));
      if (chosen.length >= 3) deepEqual(await recovered, secret);
      else await rejects(recovered, { code: "shares/few" });
    }),
    { numRuns: 40 },
  );
});

test("one share twice counts once", async () => {
  await rejects(recoverSecret(document, machine, ["ada", "ada", "ada"].map(passed)), { code: "shares/few" });
});

test("a wrong share is named", async () => {
  // Bob seals something of his own, correctly.
  const { version, identityKey } = JSON.parse(passed("bob")) as { version: string; identityKey: string };
  const bound = Buffer.concat(
    ["caisson/kms-share/v1/seal", Buffer.from(identityKey, "hex"), "bob", Buffer.from(to, "hex")].map(
      (part) => {
        const field = Buffer.from(part as string);
        const length = Buffer.alloc(4);
        length.writeUInt32BE(field.length);
        return Buffer.concat([length, field]);
      },
    ),
  );
  const forged = seal(machine.publicKey, new Uint8Array(33).fill(7), { info: bound, aad: new Uint8Array() });
  const sealed = { enc: forged.enc.toHex(), ciphertext: forged.ciphertext.toHex() };
  const wrong = JSON.stringify({ version, identityKey, name: "bob", to, ...sealed });
  await rejects(recoverSecret(document, machine, [passed("ada"), wrong, passed("cleo")]), {
    code: "shares/wrong",
    message: /bob/,
  });
});

test("a share for another machine, of another keeper's key, or of nobody is refused", async () => {
  await rejects(recoverSecret(document, generateSealingKey(), names.map(passed)), {
    code: "shares/wrong",
    message: /ada/,
  });
  throws(() => passShare(document, "ada", keepers[1]!.own, to), { code: "shares/wrong", message: /ada/ });
  throws(() => passShare(document, "eve", keepers[1]!.own, to), { code: "shares/unknown" });
});

test("a document of shares that was changed anywhere is refused", () => {
  const text = JSON.stringify(document);
  deepEqual(readShares(text), document);
  fc.assert(
    fc.property(fc.nat(text.length - 1), fc.constantFrom("0", "1", "a", "f", "}"), (at, character) => {
      const changed = text.slice(0, at) + character + text.slice(at + 1);
      if (changed === text) return;
      throws(() => readShares(changed), { name: "KmsError" });
    }),
    { numRuns: 300 },
  );
});

test("no share is in the document, and no two makings have the same", async () => {
  const again = await makeShares(secret, 3, list, 1);
  for (const [i, share] of document.shares.entries()) {
    equal(share.commitment === again.shares[i]!.commitment, false);
  }
});

test("shares that one person could use, or that nobody can, are not made", async () => {
  await rejects(makeShares(secret, 1, list, 1), { code: "shares/malformed" });
  await rejects(makeShares(secret, 5, list, 1), { code: "shares/malformed" });
  await rejects(makeShares(secret, 2, [list[0]!, list[0]!], 1), { code: "shares/malformed" });
});
