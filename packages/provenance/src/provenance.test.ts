// SPDX-License-Identifier: Apache-2.0
/**
 * Evidence of builders, minted once by a Fulcio, Rekor, certificate log and timestamp authority of @sigstore/mock, for a
 * workflow that does not exist: a public instance, and one without a log as GitHub's for private repositories.
 */

import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import test from "node:test";
import type { ProvenanceProfile } from "@caisson/releases/provenance";

import fc from "fast-check";
import { checkSubject, judgeProvenance } from "./provenance.ts";

interface Minted {
  manifest: string;
  workflow: string;
  roots: Record<ProvenanceProfile, Record<string, unknown[]>>;
  bundles: Record<string, Bundle>;
}
interface Bundle {
  mediaType: string;
  verificationMaterial: {
    tlogEntries: { canonicalizedBody: string; inclusionPromise?: object }[];
    timestampVerificationData: { rfc3161Timestamps: unknown[] };
    certificate: { rawBytes: string };
  };
  dsseEnvelope: { payload: string; payloadType: string; signatures: { sig: string }[] };
}

const minted = JSON.parse(
  readFileSync(new URL("./testing/sigstore.json", import.meta.url), "utf8"),
) as Minted;
const manifest = createHash("sha256").update(minted.manifest).digest("hex");
const judge = (
  bundle: unknown,
  {
    profile = "public",
    ...more
  }: {
    profile?: ProvenanceProfile;
    root?: object;
    workflow?: string;
    repository?: string;
    manifest?: string;
  } = {},
) =>
  judgeProvenance(bundle, {
    profile,
    root: minted.roots[profile],
    workflow: minted.workflow,
    manifest,
    ...more,
  });
const changed = (change: (bundle: Bundle) => void, from = "public"): Bundle => {
  const bundle = structuredClone(minted.bundles[from]!);
  change(bundle);
  return bundle;
};

test("a workflow built the manifest, by either instance under its own profile", async () => {
  const built = { workflow: minted.workflow, commit: "1f".repeat(20) };
  deepEqual(await judge(minted.bundles.public), { profile: "public", ...built });
  const profile = "github-private";
  deepEqual(await judge(minted.bundles[profile], { profile }), { profile, ...built });
  equal(
    (await judge(minted.bundles.public, { workflow: minted.workflow.replace("v1", "*") })).commit,
    built.commit,
  );
});

test("no profile takes what another instance gives", async () => {
  const profile = "github-private";
  await rejects(judge(minted.bundles[profile]), { code: "provenance/signature" });
  await rejects(judge(minted.bundles.public, { profile }), { code: "provenance/signature" });
  // A root with a log under the profile without one, and the other way round.
  await rejects(judge(minted.bundles.public, { profile, root: minted.roots.public }), {
    code: "provenance/root",
  });
  await rejects(judge(minted.bundles[profile], { root: minted.roots[profile] }), { code: "provenance/root" });
  await rejects(judge(minted.bundles.public, { root: { ...minted.roots.public, tlogs: "x" } }), {
    code: "provenance/root",
  });
});

test("a workflow that many may call says whose sources it built", async () => {
  const repository = "https://github.com/example/payments";
  await judge(minted.bundles.public, { repository });
  await rejects(judge(minted.bundles.public, { repository: `${repository}-2` }), {
    code: "provenance/builder",
  });
});

test("what was found once is found again, and only for its own question", async () => {
  for (let i = 0; i < 2; i++) {
    equal((await judge(minted.bundles.public)).workflow, minted.workflow);
    await rejects(judge(minted.bundles.public, { manifest: "00".repeat(32) }), {
      code: "provenance/subject",
    });
    await rejects(judge(minted.bundles.public, { workflow: minted.workflow.replace("v1", "v2") }), {
      code: "provenance/builder",
    });
  }
});

for (const [what, code, bundle] of [
  [
    "is not signed",
    "provenance/signature",
    changed((b) => void (b.dsseEnvelope.signatures[0]!.sig = "AAAA")),
  ],
  ["is not logged", "provenance/signature", changed((b) => void (b.verificationMaterial.tlogEntries = []))],
  [
    "is logged, and the log promised nothing",
    "provenance/signature",
    changed((b) => delete b.verificationMaterial.tlogEntries[0]!.inclusionPromise),
  ],
  [
    "is logged twice by one entry",
    "provenance/signature",
    changed((b) => b.verificationMaterial.tlogEntries.push(b.verificationMaterial.tlogEntries[0]!)),
  ],
  [
    "is logged as something else",
    "provenance/signature",
    changed((b) => {
      b.verificationMaterial.tlogEntries = minted.bundles.otherPredicate!.verificationMaterial.tlogEntries;
    }),
  ],
  [
    "has another statement",
    "provenance/signature",
    changed((b) => void (b.dsseEnvelope.payload = minted.bundles.otherPredicate!.dsseEnvelope.payload)),
  ],
  [
    "has no time",
    "provenance/signature",
    changed(
      (b) => void (b.verificationMaterial.timestampVerificationData.rfc3161Timestamps = []),
      "github-private",
    ),
  ],
  [
    "has another certificate",
    "provenance/signature",
    changed((b) => {
      b.verificationMaterial.certificate = minted.bundles.otherWorkflow!.verificationMaterial.certificate;
    }),
  ],
  ["has two subjects", "provenance/subject", minted.bundles.twoSubjects],
  ["is not a provenance", "provenance/subject", minted.bundles.otherPredicate],
  ["was built by another workflow", "provenance/builder", minted.bundles.otherWorkflow],
  ["was built on a runner of somebody's own", "provenance/builder", minted.bundles.selfHosted],
  ["was built by another issuer's identity", "provenance/builder", minted.bundles.otherIssuer],
  [
    "has two signatures",
    "provenance/malformed",
    changed((b) => b.dsseEnvelope.signatures.push({ sig: "AAAA" })),
  ],
  [
    "is of an older version",
    "provenance/malformed",
    changed((b) => void (b.mediaType = "application/vnd.dev.sigstore.bundle+json;version=0.2")),
  ],
  ["is nothing", "provenance/malformed", null],
  ["is empty", "provenance/malformed", {}],
] as const) {
  test(`refused: a bundle that ${what}`, async () => {
    const profile = what === "has no time" ? "github-private" : "public";
    await rejects(judge(bundle, { profile }), { code });
  });
}

test("refused: another subject behind the manifest, which no bundle here has", () => {
  const { payload, payloadType } = minted.bundles.public!.dsseEnvelope;
  const statement = JSON.parse(Buffer.from(payload, "base64").toString()) as { subject: object[] };
  const of = (subject: object[]) => ({
    payloadType,
    payload: Buffer.from(JSON.stringify({ ...statement, subject })),
  });
  checkSubject(of(statement.subject), manifest);
  const other = { name: "other", digest: { sha256: "00".repeat(32) } };
  throws(() => checkSubject(of([...statement.subject, other]), manifest), { code: "provenance/subject" });
});

test("refused: the provenance of another image", async () => {
  await rejects(judge(minted.bundles.public, { manifest: "00".repeat(32) }), { code: "provenance/subject" });
});

test("whatever a bundle holds, it is refused with a code", async () => {
  const texts = [
    "mediaType",
    "payload",
    "sig",
    "rawBytes",
    "canonicalizedBody",
    "logIndex",
    "keyId",
    "envelope",
  ];
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...texts), fc.jsonValue(), async (name, value) => {
      const altered = JSON.parse(JSON.stringify(minted.bundles.public), (key, old) =>
        key === name ? value : old,
      );
      await rejects(judge(altered), { name: "ReleaseError" });
    }),
    { numRuns: 100 },
  );
});
