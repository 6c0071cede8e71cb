// SPDX-License-Identifier: Apache-2.0
/** The examples that the specifications of C2SP themselves give (July 2026): values, as facts. */
import { deepEqual, equal, rejects } from "node:assert/strict";
import test from "node:test";
import { fromBase64, toBase64 } from "@caisson/vocabulary/bytes";
import { leafHash, nodeHash, sha256 } from "@caisson/vocabulary/merkle";
import { readCheckpoint, writeCheckpoint } from "./checkpoint.ts";
import { cosignedText, readNote, readNoteKey, signersOfNote, writeNoteKey } from "./note.ts";
import { readTrustPolicy } from "./policy.ts";
import { hashesOfTiles, inclusionProof, tileWidth } from "./tiles.ts";

test("signed-note: the verifier key of the example verifies its note, and no other text", async () => {
  const verifier = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
  const text = "This is an example message.\n";
  const line =
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
  const key = await readNoteKey(verifier);
  equal(await writeNoteKey(key), verifier);
  const note = readNote(`${text}\n${line}`);
  equal(note.text, text);
  deepEqual(await signersOfNote(note, [key]), [{ key }]);
  await rejects(signersOfNote(readNote(`${text.replace("an", "my")}\n${line}`), [key]), {
    code: "note/signature",
  });
});

test("signed-note: a text with an empty line in it ends at the last one", () => {
  const text = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n";
  const signature =
    "NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=";
  const note = readNote(`${text}\n— quasimodo.example/salvatore ${signature}\n`);
  equal(note.text, text);
  deepEqual(
    note.signatures.map(({ name, signature: bytes }) => [name, bytes.length]),
    [["quasimodo.example/salvatore", 64]],
  );
});

const behindTheSofa = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

test("tlog-checkpoint and tlog-cosignature: origin, size, root; the time of a witness, and what it signed", () => {
  const note = readNote(
    `${behindTheSofa}\n` +
      "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n" +
      "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n",
  );
  const checkpoint = readCheckpoint(note.text);
  deepEqual([checkpoint.origin, checkpoint.size], ["example.com/behind-the-sofa", 20_852_163]);
  equal(toBase64(checkpoint.root), "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=");
  equal(writeCheckpoint(checkpoint), behindTheSofa);
  const [, { signature }] = note.signatures as [unknown, { signature: Uint8Array }];
  equal(signature.length, 72);
  const time = Number(new DataView(signature.buffer, signature.byteOffset).getBigUint64(0));
  equal(time, 1_679_315_147);
  equal(cosignedText(note.text, time), `cosignature/v1\ntime 1679315147\n${behindTheSofa}`);
});

test("tlog-tiles: a tree of 70,000 is 273 full tiles and one of 112, one full and one of 17, and one of 1", async () => {
  const size = 70_000;
  const levels: Uint8Array[][] = [
    await Promise.all(Array.from({ length: size }, (_, i) => leafHash(new TextEncoder().encode(`${i}`)))),
  ];
  while (levels.at(-1)!.length >= tileWidth) {
    const below = levels.at(-1)!;
    const above: Uint8Array[] = [];
    for (let at = 0; at + tileWidth <= below.length; at += tileWidth) {
      let hashes = below.slice(at, at + tileWidth);
      while (hashes.length > 1) {
        hashes = await Promise.all(
          Array.from({ length: hashes.length / 2 }, (_, i) => nodeHash(hashes[2 * i]!, hashes[2 * i + 1]!)),
        );
      }
      above.push(hashes[0]!);
    }
    levels.push(above);
  }
  const tiles = levels.map((hashes) => [Math.floor(hashes.length / tileWidth), hashes.length % tileWidth]);
  deepEqual(tiles, [
    [273, 112],
    [1, 17],
    [0, 1],
  ]);
  const asked = new Set<string>();
  const read = hashesOfTiles(async (level, tile, width) => {
    const [full, partial] = tiles[level]!;
    equal(width, tile < full! ? tileWidth : partial, `tile ${tile} of level ${level}`);
    asked.add(`${level}/${tile}`);
    return levels[level]!.slice(tile * tileWidth, tile * tileWidth + width);
  }, size);
  for (const index of [0, 65_535, 65_536, 69_888, 69_999]) await inclusionProof(read, index, size);
  for (const last of ["0/273", "1/1", "2/0"]) equal(asked.has(last), true, last);
});

test("tlog-policy: two of three of one operator and any of another", async () => {
  const keys = await Promise.all(
    ["l", "x1", "x2", "x3", "y1", "y2", "y3"].map(async (name, i) =>
      writeNoteKey({ name, kind: i === 0 ? "note" : "cosignature", key: await sha256(Uint8Array.of(i)) }),
    ),
  );
  const policy = readTrustPolicy(
    [
      `log ${keys[0]}`,
      "",
      ...["X1", "X2", "X3"].map((name, i) => `witness ${name} ${keys[i + 1]}`),
      "group X-witnesses 2 X1 X2 X3",
      "",
      ...["Y1", "Y2", "Y3"].map((name, i) => `witness ${name} ${keys[i + 4]}`),
      "group Y-witnesses any Y1 Y2 Y3",
      "",
      "group X-and-Y all X-witnesses Y-witnesses",
      "quorum X-and-Y",
      "",
    ].join("\n"),
  );
  equal(policy.logs.length, 1);
  equal(fromBase64("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=")?.length, 32);
});
