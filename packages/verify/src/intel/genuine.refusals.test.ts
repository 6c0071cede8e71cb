// SPDX-License-Identifier: Apache-2.0
/** Every entry of the table of wrong evidence is refused with exactly its code, and right evidence is accepted. */
import { equal, rejects } from "node:assert/strict";
import { test } from "node:test";
import { issueCertificate } from "@caisson/simulated/certificates";
import { type Hierarchy } from "@caisson/simulated/pki";
import { VerifyError } from "../errors.ts";
import { toPem } from "../pki/der-writer.ts";
import { Signatures } from "../pki/remembered.ts";
import { Answers } from "../report.ts";
import { buildEvidence, type RefusalCase, times } from "../testing/evidence.ts";
import { refusals } from "../testing/refusals.ts";
import { type Collateral, verifyCollateral } from "./collateral.ts";
import { verifyQuote } from "./genuine.ts";

async function verify(change: Omit<RefusalCase, "name" | "code">, platforms?: Signatures) {
  const { quote, collateral, now, trust } = buildEvidence(change);
  return verifyQuote(quote, collateral, now, trust, new Answers(), platforms);
}

const right: [name: string, change: Omit<RefusalCase, "name" | "code">][] = [
  ["a TD 1.5 quote, version 5", { format: "td15-v5" }],
  ["a TD 1.0 quote, version 5", { format: "td10-v5" }],
  ["a TD 1.0 quote, version 4", { format: "td10-v4" }],
  ["an SGX quote, version 3", { format: "sgx-v3" }],
  ["zero padding after the quote", { quote: (q) => Buffer.concat([q, new Uint8Array(3000)]) }],
  ["one NUL after the chain, as Intel writes it", { chain: (m) => `${m.pckChain}\0` }],
  [
    "a chain of leaf, root and CA, as some servers order it",
    {
      chain: (m) => {
        const [leaf, ca, root] = m.pckChain.split(/(?<=END CERTIFICATE-----\n)/) as [string, string, string];
        return leaf + root + ca;
      },
    },
  ],
  ["the first second of validity", { now: times.issued }],
  ["the last second of validity", { now: times.expires }],
];
for (const [name, change] of right) {
  test(`accepted: ${name}`, async () => equal((await verify(change)).tcb.status, "UpToDate"));
}

for (const refusal of refusals) {
  test(`${refusal.code}: ${refusal.name}`, () =>
    rejects(() => verify(refusal), { name: "VerifyError", code: refusal.code }));
}

test("who remembers a platform's signatures refuses the same, with the same codes", async () => {
  const platforms = new Signatures();
  for (const [, change] of [...right, ...right]) {
    equal((await verify(change, platforms)).tcb.status, "UpToDate");
  }
  for (const refusal of refusals) {
    await rejects(verify(refusal, platforms), { name: "VerifyError", code: refusal.code }, refusal.name);
  }
});

test("collateral that was verified before is judged by the day at each use: its lists expire, too", async () => {
  for (const list of ["rootCrl", "pckCrl"] as const) {
    const { quote, collateral, now, trust } = buildEvidence({
      before: (h) => void (h[list].nextUpdate = new Date("2026-07-01T00:00:00Z")),
    });
    const verified = await verifyCollateral(collateral, now, trust);
    equal((await verifyQuote(quote, verified, now, trust)).tcb.status, "UpToDate");
    const later = new Date("2026-07-01T00:00:01Z");
    await rejects(verifyQuote(quote, verified, later, trust), { code: "crl/expired" });
  }
});

test("evidence is good until the first certificate of its own chain expires too", async () => {
  const expires = new Date("2026-07-01T00:00:00Z");
  const { quote, collateral, now, trust } = buildEvidence({
    // The same CA, name and key, with a certificate that ends earlier than the collateral's.
    chain: (minted, h) => {
      const [leaf, , root] = minted.pckChain.split(/(?<=END CERTIFICATE-----\n)/) as [string, string, string];
      return leaf + toPem(issueCertificate({ ...h.pckCa, notAfter: expires })) + root;
    },
  });
  const { validUntil } = await verifyQuote(quote, collateral, now, trust);
  equal(new Date(validUntil).toISOString(), expires.toISOString());
});

test("what was read before is judged anew: signature, issuer and day", async () => {
  const { quote, collateral, now, trust } = buildEvidence({});
  const judge = (change: Partial<Collateral>, at = now) =>
    verifyQuote(quote, { ...collateral, ...change }, at, trust);
  await judge({});
  const other = collateral.qe_identity_signature;
  await rejects(judge({ tcb_info_signature: other }), { code: "tcb-info/signature" });
  await rejects(judge({ qe_identity_signature: collateral.tcb_info_signature }), {
    code: "qe-identity/signature",
  });
  await rejects(judge({ tcb_info: collateral.qe_identity, tcb_info_signature: other }), {
    code: "tcb-info/version",
  });
  await rejects(judge({ pck_crl: collateral.root_ca_crl }), { code: "crl/issuer" });
  await rejects(judge({}, new Date(times.expires.getTime() + 1000)), VerifyError);
  await judge({});
});

for (const [what, code, before] of [
  [
    "the root CRL",
    "crl/expired",
    (h: Hierarchy) => void (h.rootCrl.nextUpdate = new Date("2026-07-01T00:00:00Z")),
  ],
  [
    "the PCK CRL",
    "crl/expired",
    (h: Hierarchy) => void (h.pckCrl.nextUpdate = new Date("2026-07-01T00:00:00Z")),
  ],
  [
    "the TCB info",
    "tcb-info/expired",
    (h: Hierarchy) => void (h.tcbInfo.nextUpdate = "2026-07-01T00:00:00Z"),
  ],
  [
    "the QE identity",
    "qe-identity/expired",
    (h: Hierarchy) => void (h.qeIdentity.nextUpdate = "2026-07-01T00:00:00Z"),
  ],
] as const) {
  test(`${what} was read when it was valid: expired, it is refused as if nobody had seen it`, async () => {
    const { collateral, now, trust } = buildEvidence({ before });
    await verifyCollateral(collateral, now, trust);
    await rejects(verifyCollateral(collateral, new Date("2026-07-01T00:00:01Z"), trust), { code });
  });
}
