// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { noteKeyOf, signer } from "../testing/signers.ts";
import { cosignedText, readNote, readNoteKey, signersOfNote, writeNoteKey, writeSignature } from "./note.ts";

/** The example in the documentation of Go's note package, which C2SP's signed notes came from. */
const vector = {
  key: "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
  note: [
    "If you think cryptography is the answer to your problem,",
    "then you don't know what your problem is.",
    "",
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=",
    "",
  ].join("\n"),
};

test("the example of signed notes", async () => {
  const key = await readNoteKey(vector.key);
  equal(await writeNoteKey(key), vector.key);
  const [signed] = await signersOfNote(readNote(vector.note), [key]);
  equal(signed?.key, key);
  await rejects(signersOfNote(readNote(vector.note.replace("cryptography", "Cryptography")), [key]), {
    code: "note/signature",
  });
});

const author = signer("author");
const witness = signer("witness");
const authorKey = noteKeyOf("example.com/log", "note", author);
const witnessKey = noteKeyOf("witness.example/w", "cosignature", witness);
const text = "example.com/log\n5\nAAAA\n";
const utf8 = (value: string) => new TextEncoder().encode(value);

async function cosign(time: number, over = text): Promise<string> {
  const stamp = new Uint8Array(8);
  new DataView(stamp.buffer).setBigUint64(0, BigInt(time));
  return writeSignature(witnessKey, Uint8Array.of(...stamp, ...witness.sign(utf8(cosignedText(over, time)))));
}
const signed = async () => writeSignature(authorKey, author.sign(utf8(text)));

test("authors and witnesses: who signed, and when a witness says that it did", async () => {
  const note = readNote(`${text}\n${await signed()}${await cosign(1_700_000_000)}`);
  deepEqual(await signersOfNote(note, [authorKey, witnessKey]), [
    { key: authorKey },
    { key: witnessKey, time: 1_700_000_000 },
  ]);
});

test("unknown keys are ignored; a known one that does not verify refuses the note", async () => {
  const stranger = await writeSignature(noteKeyOf("x", "note", signer("x")), new Uint8Array(64));
  deepEqual(await signersOfNote(readNote(`${text}\n${stranger}${await signed()}`), [authorKey]), [
    { key: authorKey },
  ]);
  const bad = await writeSignature(authorKey, new Uint8Array(64));
  for (const lines of [bad, bad + (await signed()), (await signed()) + bad]) {
    await rejects(signersOfNote(readNote(`${text}\n${lines}`), [authorKey]), { code: "note/signature" });
  }
});

test("a cosignature of another checkpoint, or with another time, does not verify", async () => {
  const other = await cosign(1_700_000_000, text.replace("5", "6"));
  await rejects(signersOfNote(readNote(`${text}\n${other}`), [witnessKey]), { code: "note/signature" });
  const [, name, encoded] = (await cosign(1_700_000_000)).trimEnd().split(" ");
  const bytes = Uint8Array.fromBase64(encoded!);
  bytes[11]! ^= 1;
  await rejects(signersOfNote(readNote(`${text}\n— ${name} ${bytes.toBase64()}\n`), [witnessKey]), {
    code: "note/signature",
  });
});

for (const [name, note] of [
  ["no empty line", "text\n— a AAAAAAAA\n"],
  ["no newline at the end", "text\n\n— a AAAAAAAA"],
  ["no signature", "text\n\n"],
  ["another dash", "text\n\n- a AAAAAAAA\n"],
  ["base64 without padding", "text\n\n— a AAAAAAA\n"],
  ["four bytes of signature", "text\n\n— a AAAAAA==\n"],
  ["a carriage return", "text\r\n\n— a AAAAAAAA\n"],
  ["a byte that was not UTF-8", "te\ufffdxt\n\n— a AAAAAAAA\n"],
  ["101 signatures", `text\n\n${"— a AAAAAAAA\n".repeat(101)}`],
  ["64 KiB", `${"x".repeat(64 * 1024)}\n\n— a AAAAAAAA\n`],
] as const) {
  test(`refused: ${name}`, () => throws(() => readNote(note), { code: "note/malformed" }));
}

for (const [name, key] of [
  ["another id", vector.key.replace("c74f20a3", "c74f20a4")],
  ["another key", vector.key.replace("ARpc", "ARpd")],
  ["another type", vector.key.replace("ARpc", "Ahpc")],
  ["a name with a plus", `a+${vector.key}`],
  ["a name with a space", ` ${vector.key}`],
  ["nothing", ""],
] as const) {
  test(`a key is refused: ${name}`, () => rejects(readNoteKey(key), { code: "note/malformed" }));
}

test("whatever text there is, it is a note or refused", () => {
  const part = fc.constantFrom("\n", "\n\n", "— ", "a", " ", "AAAAAAAA", "é", "\r", "=");
  fc.assert(
    fc.property(fc.array(part, { maxLength: 30 }), (parts) => {
      const whole = parts.join("");
      try {
        const note = readNote(whole);
        equal(whole.startsWith(`${note.text}\n— `), true);
      } catch (error) {
        equal((error as { code?: string }).code, "note/malformed");
      }
    }),
  );
});
