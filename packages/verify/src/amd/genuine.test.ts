// SPDX-License-Identifier: Apache-2.0
/** SEV-SNP reports: minted ones of every product, kind and version; every single wrong thing refused with its code. */
import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { VerifyError } from "../errors.ts";
import { buildSnp, snpRefusals } from "../testing/snp-refusals.ts";
import { verifyGenuine } from "../verify.ts";
import { describeReport } from "./describe.ts";
import { verifyReport } from "./genuine.ts";
import { products } from "./products.ts";

const judge = ({ report, collateral, roots, now }: ReturnType<typeof buildSnp>) =>
  verifyReport(report, collateral, now, { roots });

for (const product of products) {
  for (const kind of ["vcek", "vlek"] as const) {
    test(`${product}, signed by a ${kind.toUpperCase()}: versions 2 to 5`, async () => {
      for (const version of [2, 3, 4, 5]) {
        const built = buildSnp({ product, kind, before: (h) => (h.report.version = version) });
        const genuine = await judge(built);
        deepEqual(
          [
            genuine.product,
            genuine.signedBy,
            genuine.report.version,
            genuine.report.mitigations !== undefined,
          ],
          [product, kind, version, version === 5],
        );
        equal(genuine.tcb.reported.snp, 24);
        equal(genuine.tcb.reported.fmc, product === "Turin" ? 3 : undefined);
        equal(genuine.endorsement.provider, kind === "vlek" ? "CN=cc-test.example" : undefined);
      }
    });
  }
}

test("PLATFORM_INFO as real Turins have it: error correction, no aliases, an IOMMU that writes nothing it must not", async () => {
  const built = buildSnp({ product: "Turin", before: (h) => (h.report.platformInfo = 0x64n) });
  equal((await judge(built)).report.platformInfo, 0x64n);
  match(
    describeReport(built.report, undefined).groups.platform!["platform info"]!,
    /ecc, alias-check, iommu-write-safe/,
  );
});

test("a VLEK's report may mask the chip's id", async () => {
  const built = buildSnp({ kind: "vlek", before: (h) => (h.report.chipId = "00".repeat(64)) });
  equal((await judge(built)).signedBy, "vlek");
});

test("a hardware id may be wrapped in an OCTET STRING, and Turin's may have eight bytes", async () => {
  const hardwareId = (change: (value: Uint8Array) => Uint8Array, product: "Milan" | "Turin") =>
    judge(
      buildSnp({
        product,
        before: (h) => {
          const extension = h.endorsement.extensions.find(({ oid }) => oid.endsWith(".3704.1.4"))!;
          extension.value = change(extension.value);
        },
      }),
    );
  await hardwareId((value) => Uint8Array.of(4, value.length, ...value), "Milan");
  await hardwareId((value) => value.slice(0, 8), "Turin");
  await hardwareId((value) => Uint8Array.of(4, 8, ...value.slice(0, 8)), "Turin");
});

test("the four TCB versions may differ", async () => {
  const genuine = await judge(
    buildSnp({ before: (h) => (h.report.currentTcb = Uint8Array.of(5, 0, 0, 0, 0, 0, 25, 220)) }),
  );
  equal(genuine.tcb.current.microcode, 220);
  equal(genuine.tcb.launch.microcode, 219);
});

for (const refusal of snpRefusals) {
  test(`refused: ${refusal.name} (${refusal.code})`, async () => {
    await rejects(judge(buildSnp(refusal)), { code: refusal.code });
  });
}

test("a missing list of revocations is open only where that is said", async () => {
  const { report, collateral, roots, now } = buildSnp({ collateral: ({ crl: _, ...rest }) => rest });
  equal((await verifyReport(report, collateral, now, { roots, revocation: "any" })).product, "Milan");
  const found = await verifyGenuine({ platform: "snp", report, collateral }, { now, amdRoots: roots });
  deepEqual([found.verdict, found.codes], ["undetermined", ["crl/missing"]]);
});

test("another chip's certificate proves nothing either way; a changed report is refused", async () => {
  const verdict = async (change: Parameters<typeof buildSnp>[0]) => {
    const { report, collateral, roots, now } = buildSnp(change);
    return (await verifyGenuine({ platform: "snp", report, collateral }, { now, amdRoots: roots })).verdict;
  };
  const named = (name: string) => snpRefusals.find((one) => one.name === name)!;
  equal(await verdict({}), "accepted");
  equal(await verdict(named("another chip")), "undetermined");
  equal(await verdict(named("no certificate")), "undetermined");
  equal(await verdict(named("a changed measurement")), "rejected");
  equal(await verdict(named("AMD's own roots alone")), "rejected");
});

test("one bit changed anywhere in a report, and arbitrary bytes: refused, and never a crash", async () => {
  const built = buildSnp({ before: (h) => (h.report.version = 5) });
  for (let i = 0; i < built.report.length; i++) {
    const report = Uint8Array.from(built.report);
    report[i]! ^= 1 << (i & 7);
    await rejects(judge({ ...built, report }), VerifyError, `byte ${i}`);
  }
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 1184, maxLength: 1184 }), async (report) => {
      await rejects(judge({ ...built, report }), VerifyError);
    }),
    { numRuns: 200 },
  );
});

test("one bit changed anywhere in the certificates and the list, and every truncation: refused", async () => {
  const built = buildSnp({});
  const parts = ["endorsement", "crl"] as const;
  const check = async (collateral: typeof built.collateral, what: string) => {
    await rejects(judge({ ...built, collateral }), VerifyError, what);
  };
  const changed = (bytes: Uint8Array, at: number) => bytes.map((byte, i) => (i === at ? byte ^ 0x10 : byte));
  for (const part of parts) {
    const bytes = built.collateral[part]!;
    for (let i = 0; i < bytes.length; i += 1) {
      await check({ ...built.collateral, [part]: changed(bytes, i) }, `${part} ${i}`);
      if (i % 16 === 0)
        await check({ ...built.collateral, [part]: bytes.slice(0, i) }, `${part} cut at ${i}`);
    }
  }
  const [ask, ark] = built.collateral.chain as [Uint8Array, Uint8Array];
  for (let i = 0; i < Math.min(ask.length, ark.length); i += 3) {
    await check({ ...built.collateral, chain: [changed(ask, i), ark] }, `ask ${i}`);
    await check({ ...built.collateral, chain: [ask, changed(ark, i)] }, `ark ${i}`);
  }
});
