// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import test from "node:test";
import { leafHash, nodeHash } from "@caisson/vocabulary/merkle";
import fc from "fast-check";
import { noteKeyOf, type Signer, signer } from "../testing/signers.ts";
import { readCheckpoint, writeCheckpoint } from "./checkpoint.ts";
import { cosignedText, type NoteKey, writeNoteKey, writeSignature } from "./note.ts";
import { readTrustPolicy } from "./policy.ts";
import { readProof, verifyLogged, writeProof } from "./proof.ts";

const utf8 = (value: string) => new TextEncoder().encode(value);
const log = signer("log");
const witnesses = ["w1", "w2", "w3"].map((name) => signer(name));
const logKey = noteKeyOf("example.com/log", "note", log);
const keys = witnesses.map((one, i) => noteKeyOf(`w${i + 1}.example`, "cosignature", one));
const policyText = [
  "# three operators, two of them",
  `log ${await writeNoteKey(logKey)} https://log.example/`,
  ...(await Promise.all(keys.map(async (key, i) => `witness w${i + 1}\t${await writeNoteKey(key)}`))),
  "group operators 2 w1 w2 w3",
  "quorum operators",
  "",
].join("\n");
const policy = readTrustPolicy(policyText);

const entries = ["first", "second", "third"].map(utf8);
const [l0, l1, l2] = await Promise.all(entries.map(leafHash));
const left = await nodeHash(l0!, l1!);
const tree = { origin: "example.com/log", size: 3, root: await nodeHash(left, l2!) };
const seconds = 1_800_000_000;

async function cosign(key: NoteKey, by: Signer, text: string, time: number): Promise<string> {
  const stamp = new Uint8Array(8);
  new DataView(stamp.buffer).setBigUint64(0, BigInt(time));
  return writeSignature(key, Uint8Array.of(...stamp, ...by.sign(utf8(cosignedText(text, time)))));
}

/** A checkpoint that the log and these witnesses signed, each at its time. */
async function signedCheckpoint(times: readonly (number | undefined)[], checkpoint = tree): Promise<string> {
  const text = writeCheckpoint(checkpoint);
  const lines = [await writeSignature(logKey, log.sign(utf8(text)))];
  for (const [i, time] of times.entries()) {
    if (time !== undefined) lines.push(await cosign(keys[i]!, witnesses[i]!, text, time));
  }
  return `${text}\n${lines.join("")}`;
}

const now = seconds * 1000;
const day = 24 * 3600;
const limits = { now, maximumAgeMs: day * 1000 };
const third = { index: 2, path: [left] };
const fresh = await signedCheckpoint([seconds - 100, seconds - 50, undefined]);

test("an entry that is logged, in a view that a quorum saw lately", async () => {
  const proof = readProof(writeProof({ ...third, checkpoint: fresh }));
  deepEqual(proof.path, [left]);
  const { checkpoint, seen } = await verifyLogged(entries[2]!, proof, policy, limits);
  deepEqual(checkpoint, tree);
  // The second of the two is what makes it a quorum.
  equal(seen, (seconds - 100) * 1000);
});

const refused: {
  name: string;
  proof?: object;
  entry?: number;
  checkpoint?: () => Promise<string>;
  code: string;
}[] = [
  { name: "a proof for another entry", entry: 1, code: "log/proof" },
  { name: "a proof for another index", proof: { index: 1 }, code: "log/proof" },
  { name: "an index beyond the tree", proof: { index: 3 }, code: "log/proof" },
  { name: "a proof without its last hash", proof: { path: [] }, code: "log/proof" },
  {
    name: "one witness of two",
    checkpoint: () => signedCheckpoint([seconds]),
    code: "log/quorum",
  },
  {
    name: "one witness twice",
    checkpoint: async () =>
      (await signedCheckpoint([seconds])) +
      (await cosign(keys[0]!, witnesses[0]!, writeCheckpoint(tree), seconds)),
    code: "log/quorum",
  },
  {
    name: "a view that is a second too old",
    checkpoint: () => signedCheckpoint([seconds - day - 1, seconds - day - 1, undefined]),
    code: "log/age",
  },
  {
    name: "a view that only one witness saw lately",
    checkpoint: () => signedCheckpoint([seconds, seconds - day - 1, undefined]),
    code: "log/age",
  },
  {
    name: "witnesses from the future",
    checkpoint: () => signedCheckpoint([seconds + 301, seconds + 301, undefined]),
    code: "log/quorum",
  },
  {
    name: "a cosignature of another checkpoint of the same size",
    checkpoint: async () => {
      const fork = writeCheckpoint({ ...tree, root: left });
      return (await signedCheckpoint([seconds])) + (await cosign(keys[1]!, witnesses[1]!, fork, seconds));
    },
    code: "note/signature",
  },
  {
    name: "another log",
    checkpoint: () => signedCheckpoint([seconds, seconds], { ...tree, origin: "example.com/other" }),
    code: "log/origin",
  },
  {
    name: "a checkpoint that the log did not sign",
    checkpoint: async () => {
      const text = writeCheckpoint(tree);
      return `${text}\n${await cosign(keys[0]!, witnesses[0]!, text, seconds)}${await cosign(keys[1]!, witnesses[1]!, text, seconds)}`;
    },
    code: "log/origin",
  },
];
for (const { name, proof = {}, entry = 2, checkpoint = async () => fresh, code } of refused) {
  test(`refused: ${name}`, async () => {
    const whole = { ...third, ...proof, checkpoint: await checkpoint() };
    await rejects(verifyLogged(entries[entry]!, whole, policy, limits), { code });
  });
}

test("exactly as old as allowed is not too old", async () => {
  const checkpoint = await signedCheckpoint([seconds - day, seconds - day, undefined]);
  const proof = { ...third, checkpoint };
  equal((await verifyLogged(entries[2]!, proof, policy, limits)).checkpoint.size, 3);
  // Its signatures are known by now; its age is not.
  const later = { ...limits, now: limits.now + 1000 };
  await rejects(verifyLogged(entries[2]!, proof, policy, later), { code: "log/age" });
});

test("any change of a proof's text is refused, or says the same", async () => {
  const text = writeProof({ ...third, checkpoint: fresh });
  const property = fc.asyncProperty(
    fc.nat(text.length - 1),
    fc.constantFrom("0", "\n", "A", " ", "—", "\u0000"),
    async (at, to) => {
      const changed = text.slice(0, at) + to + text.slice(at + 1);
      try {
        const logged = await verifyLogged(entries[2]!, readProof(changed), policy, limits);
        deepEqual(logged.checkpoint, tree);
      } catch (error) {
        equal(/^(log|note)\//.test((error as { code?: string }).code ?? ""), true, String(error));
      }
    },
  );
  await fc.assert(property, { numRuns: 300 });
});

for (const [name, text] of [
  ["another header", writeProof({ ...third, checkpoint: fresh }).replace("@v1", "@v2")],
  ["extra data", writeProof({ ...third, checkpoint: fresh }).replace("\nindex", "\nextra AAAA\nindex")],
  [
    "an index with a zero in front",
    writeProof({ ...third, checkpoint: fresh }).replace("index 2", "index 02"),
  ],
  [
    "an index above 2^53",
    writeProof({ ...third, checkpoint: fresh }).replace("index 2", "index 9007199254740993"),
  ],
  ["54 hashes", writeProof({ index: 2, path: Array(54).fill(left), checkpoint: fresh })],
  ["a hash of 31 bytes", writeProof({ index: 2, path: [left.subarray(1)], checkpoint: fresh })],
  ["no checkpoint", "c2sp.org/tlog-proof@v1\nindex 2\n"],
] as const) {
  test(`malformed: ${name}`, () => throws(() => readProof(text), { code: "log/malformed" }));
}

for (const [name, text] of [
  ["two lines", "a\n1\n"],
  ["a size with a zero in front", writeCheckpoint(tree).replace("\n3\n", "\n03\n")],
  ["a negative size", writeCheckpoint(tree).replace("\n3\n", "\n-3\n")],
  ["a short root", writeCheckpoint({ ...tree, root: left.subarray(1) })],
  ["no origin", writeCheckpoint({ ...tree, origin: "" })],
  ["an empty extension", `${writeCheckpoint(tree)}\n`],
] as const) {
  test(`a checkpoint is malformed: ${name}`, () =>
    throws(() => readCheckpoint(text), { code: "log/malformed" }));
}

const change = (from: string | RegExp, to: string) => policyText.replace(from, to);
for (const [name, text] of [
  ["no quorum", change("quorum operators\n", "")],
  ["two quorums", change("quorum operators", "quorum none\nquorum operators")],
  ["a quorum that is not defined", change("quorum operators", "quorum others")],
  ["a group before its members", change(/(witness w1.*\n)([\s\S]*)(group .*\n)/, "$3$1$2")],
  ["a member twice", change("w1 w2 w3\n", "w1 w1 w3\n")],
  ["a member in two groups", change("quorum", "group other any w1\nquorum")],
  ["more needed than there are", change("operators 2", "operators 4")],
  ["none needed", change("operators 2", "operators 0")],
  ["a witness with two names", change(/witness w2\t.*/, `witness w2 ${/w1\t(.*)/.exec(policyText)![1]}`)],
  ["a log's key for a witness", change(/witness w1\t.*/, `witness w1 ${await writeNoteKey(logKey)}`)],
  ["a name twice", change("witness w2", "witness w1")],
  ["the name none", change(/w3/g, "none")],
  ["an unknown word", `${policyText}trust me\n`],
  ["a carriage return", policyText.replaceAll("\n", "\r\n")],
  ["201 lines", "\n".repeat(200)],
] as const) {
  test(`a policy is malformed: ${name}`, () =>
    throws(() => readTrustPolicy(text), { code: "log/malformed" }));
}

test("a policy that needs no witness says so", async () => {
  const alone = readTrustPolicy(`log ${await writeNoteKey(logKey)}\nquorum none\n`);
  const checkpoint = await signedCheckpoint([]);
  deepEqual(await verifyLogged(entries[2]!, { ...third, checkpoint }, alone, limits), {
    checkpoint: tree,
    seen: undefined,
  });
});
