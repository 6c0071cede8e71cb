// SPDX-License-Identifier: Apache-2.0
/**
 * Real quotes with the collateral of their day, and Intel's own synthetic sample. The vectors are not part of this
 * repository; where they are absent, these tests are skipped and `genuine.refusals.test.ts` covers the same paths.
 */
import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { measuredEvents, parseEventLog, replay } from "@caisson/measure";
import { importP256, verifyP256 } from "#crypto";
import type { ErrorCode } from "./errors.ts";
import { type Evidence, isQuote } from "./evidence/evidence.ts";
import { readDstackQuote } from "./evidence/formats/dstack.ts";
import { readEvidence } from "./evidence/formats/forms.ts";
import { type Collateral, verifyCollateral } from "./intel/collateral.ts";
import { verifyQuote } from "./intel/genuine.ts";
import { parseQuote, type TdReport } from "./intel/quote.ts";
import { intelRoot } from "./intel/roots.ts";
import { qeIdentitySchema } from "./intel/tcb.ts";
import { parsePemChain } from "./pki/pem.ts";
import { parseCertificate } from "./pki/x509.ts";
import { checkBootLog } from "./policy/boot-log.ts";
import { checkRuntimeEvents } from "./policy/event-rules.ts";
import { readPolicy } from "./policy/policy.ts";
import { Answers } from "./report.ts";

const vectors = new URL("../../../../shared/vectors/", import.meta.url);
const skip = existsSync(vectors) ? false : "../shared/vectors is absent";
const read = (path: string): Uint8Array => new Uint8Array(readFileSync(new URL(path, vectors)));
const text = (path: string): string => readFileSync(new URL(path, vectors), "utf8");
const json = (path: string): Collateral => JSON.parse(text(path));
const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

/** Evidence of a quote. */
function readQuoteEvidence(input: Uint8Array): Evidence {
  const evidence = readEvidence(input);
  if (!isQuote(evidence)) throw new Error("not a quote");
  return evidence;
}

// Phala-Network/dcap-qvl, sample/: what each must evaluate to is in the folder's README.
const accepted: [quote: string, collateral: string, at: string, status: string, advisories: string[]][] = [
  ["tdx_quote", "tdx_quote", "2025-06-20", "UpToDate", []],
  ["tdx_quote_td15ex", "tdx_quote_td15ex", "2026-10-20", "UpToDate", []],
  ["gas_quote.hex", "gas", "2025-09-03", "UpToDate", []],
  [
    "sgx_quote",
    "sgx_quote",
    "2025-06-20",
    "ConfigurationAndSWHardeningNeeded",
    ["INTEL-SA-00289", "INTEL-SA-00615"],
  ],
];
for (const [quote, collateral, at, status, advisories] of accepted) {
  test(`dcap-qvl ${quote} is genuine, ${status}`, { skip }, async () => {
    const evidence = readQuoteEvidence(read(`dcap-qvl/${quote}`));
    const documents = json(`dcap-qvl/${collateral}_collateral.json`);
    const { tcb } = await verifyQuote(evidence.quote, documents, new Date(at), intelRoot);
    deepEqual([tcb.status, tcb.advisories], [status, advisories]);
    // The same through collateral that was verified before.
    const verified = await verifyCollateral(documents, new Date(at), intelRoot);
    equal((await verifyQuote(evidence.quote, verified, new Date(at), intelRoot)).tcb.status, status);
  });
}

const refused: [name: string, quote: string, collateral: string, at: string, code: ErrorCode][] = [
  ["tdx_quote_outdated", "tdx_quote_outdated", "tdx_quote_outdated", "2026-03-01", "tcb/no-level"],
  ["tdx_quote a month later", "tdx_quote", "tdx_quote", "2025-07-20", "crl/expired"],
  ["tdx_quote before its TCB info", "tdx_quote", "tdx_quote", "2025-06-19", "crl/not-yet-valid"],
  ["tdx_quote with another platform's collateral", "tdx_quote", "gas", "2025-09-03", "tcb-info/fmspc"],
  ["tdx_quote with SGX collateral", "tdx_quote", "sgx_quote", "2025-06-20", "crl/issuer"],
];
for (const [name, quote, collateral, at, code] of refused) {
  test(`dcap-qvl ${name}: ${code}`, { skip }, async () => {
    const documents = json(`dcap-qvl/${collateral}_collateral.json`);
    await rejects(verifyQuote(read(`dcap-qvl/${quote}`), documents, new Date(at), intelRoot), { code });
  });
}

for (const path of [
  "dcap-qvl/quote-from-tappd.hex",
  "dcap-qvl/tdx-quote.hex",
  "go-tdx-guest/cos-113-tdx-quote.dat",
  "go-tdx-guest/quote_v5_sample.dat",
]) {
  test(`${path} parses, and its chain ends at Intel's root`, { skip }, () => {
    const { pckChain, body } = parseQuote(readQuoteEvidence(read(path)).quote);
    equal(body.tee, "tdx");
    const chain = parsePemChain(pckChain!);
    deepEqual(chain[2]!.publicKey, intelRoot.rootKey);
  });
}

test("go-tdx-guest tdx_prod_quote_SPR_E4.dat has text behind the quote: refused with it, read without", {
  skip,
}, () => {
  const quote = read("go-tdx-guest/tdx_prod_quote_SPR_E4.dat");
  throws(() => parseQuote(quote), { code: "quote/trailing-bytes" });
  equal(parseQuote(quote.subarray(0, 4935)).version, 4);
});

test("go-tdx-guest: report data is the nonce that was sent", { skip }, () => {
  const { body } = parseQuote(read("go-tdx-guest/cos-113-tdx-quote.dat"));
  deepEqual(body.report.reportData, read("go-tdx-guest/nonce.dat"));
});

test("go-tdx-guest: the CCEL of COS 113 replays to the quote, and an altered one does not", {
  skip,
}, async () => {
  const { body } = parseQuote(read("go-tdx-guest/cos-113-tdx-quote.dat"));
  if (body.tee !== "tdx") throw new Error("no TDX quote");
  const policy = readPolicy({ version: "caisson/policy/v1" });
  const codes = async (bytes: Uint8Array) => {
    const answers = new Answers();
    const evidence = {
      platform: "tdx" as const,
      quote: new Uint8Array(),
      bootLog: { format: "tcg2" as const, bytes },
    };
    await checkBootLog(evidence, body.report, policy, answers);
    return answers.list(["events/boot-log"]).map(({ outcome, code }) => code ?? outcome)[0];
  };
  const log = read("go-tdx-guest/ccel_data.dat");
  equal(await codes(log), "pass");
  const altered = Uint8Array.from(log);
  // The first extended record is at 65; its digest begins behind index, type, count and algorithm.
  altered[65 + 14]! ^= 1;
  equal(await codes(altered), "events/boot-replay");
});

for (const path of ["dstack/quote-report.json", "dstack/tdx-lite-getquote.json"]) {
  test(`${path}: its event log replays to RTMR0 to RTMR3`, { skip }, async () => {
    const evidence = readDstackQuote(JSON.parse(text(path)));
    const { body } = parseQuote(evidence.quote);
    if (body.tee !== "tdx") throw new Error("no TDX quote");
    const sequence = evidence.runtimeEvents!.map(({ name }) => name);
    const policy = readPolicy({ version: "caisson/policy/v1", events: { sequence } });
    const answers = new Answers();
    await checkBootLog(evidence, body.report, policy, answers);
    const payloads = await checkRuntimeEvents(evidence.runtimeEvents!, body.report, policy, answers);
    deepEqual(
      answers
        .list(["events/boot-log", "events/runtime-replay", "events/sequence"])
        .map(({ outcome }) => outcome),
      ["pass", "pass", "pass"],
    );
    equal(toHex(payloads!.get("app-id")!).length, 40);
  });
}

test("dstack: the CCEL beside a quote of another kernel does not replay to it", { skip }, async () => {
  const { quote } = readQuoteEvidence(read("dcap-qvl/quote-from-tappd.hex"));
  const { body } = parseQuote(quote);
  if (body.tee !== "tdx") throw new Error("no TDX quote");
  const answers = new Answers();
  const bootLog = { format: "tcg2" as const, bytes: read("dstack/ccel.bin") };
  await checkBootLog(
    { platform: "tdx", quote, bootLog },
    body.report,
    readPolicy({ version: "caisson/policy/v1" }),
    answers,
  );
  const [check] = answers.list(["events/boot-log"]);
  equal(check!.code, "events/boot-replay");
  // RTMR0 is the same machine's, RTMR1 another kernel's.
  equal(check!.expected!.includes("RTMR0"), false);
  equal(check!.expected!.includes("RTMR1"), true);
});

for (const version of ["2022.11", "2025.02", "2026.08"]) {
  test(`trial: the TPM log of OVMF ${version} replays on the emulated platform, and is not a TD's log`, {
    skip,
  }, async () => {
    const bytes = read(`trial/ovmf-${version}-direct-boot.tcg2`);
    const { rtmr0, rtmr1, rtmr2 } = await replay(measuredEvents(parseEventLog(bytes), "pcr"));
    const td = { rtmrs: [rtmr0, rtmr1, rtmr2, new Uint8Array(48)] } as Partial<TdReport> as TdReport;
    const codes = await Promise.all(
      (["emulated", "tdx"] as const).map(async (platform) => {
        const answers = new Answers();
        const evidence = { platform, quote: new Uint8Array(), bootLog: { format: "tcg2" as const, bytes } };
        await checkBootLog(evidence, td, readPolicy({ version: "caisson/policy/v1" }), answers);
        return answers.list(["events/boot-log"])[0]!.code ?? "pass";
      }),
    );
    deepEqual(codes, ["pass", "events/boot-log"]);
  });
}

/** The exact text of the first member of a PCS answer, and the signature beside it. */
function signedPart(answer: string, member: string): [json: string, signature: string] {
  const start = `{"${member}":`;
  const end = answer.lastIndexOf(',"signature":"');
  if (!answer.startsWith(start) || end < 0) throw new Error(`no ${member} in this answer`);
  return [answer.slice(start.length, end), JSON.parse(answer).signature];
}

/** The collateral of Intel's synthetic sample, as documents are handed around, and its root. */
function sampleCollateral(place: string) {
  const file = (name: string) => `${place}${name}`;
  const [tcbInfo, tcbInfoSignature] = signedPart(text(file("tcbInfo.json")), "tcbInfo");
  const [qeIdentity, qeIdentitySignature] = signedPart(text(file("qeIdentity.json")), "enclaveIdentity");
  const pem = (path: string) =>
    text(file(path))
      .match(/-----BEGIN[^]*?-----END CERTIFICATE-----\n?/g)!
      .map((c) => `${c.trimEnd()}\n`);
  // Some of its chains run from the root down.
  const down = (path: string) => {
    const chain = pem(path);
    return (chain[0] === pem("trustedRootCaCert.pem")[0] ? chain.reverse() : chain).join("");
  };
  const root = parseCertificate(
    Buffer.from(pem("trustedRootCaCert.pem")[0]!.replace(/-----[^-]+-----|\s/g, ""), "base64"),
  );
  const collateral: Collateral = {
    pck_crl_issuer_chain: down("pckSignChain.pem"),
    root_ca_crl: toHex(read(file("rootCaCrl.der"))),
    pck_crl: toHex(read(file("intermediateCaCrl.der"))),
    tcb_info_issuer_chain: down("tcbSignChain.pem"),
    tcb_info: tcbInfo,
    tcb_info_signature: tcbInfoSignature,
    qe_identity_issuer_chain: down("tcbSignChain.pem"),
    qe_identity: qeIdentity,
    qe_identity_signature: qeIdentitySignature,
  };
  const trust = { name: "Intel's sample root", rootKey: root.publicKey };
  return { file, pem, down, collateral, trust };
}

test("intel-qvl tdx: every chain, list and signature is right; its QE identity is another enclave's", {
  skip,
}, async () => {
  // The sample's generator filled enclave fields with random bytes of its own: MRSIGNER of report and identity differ
  // (MISCSELECT and ATTRIBUTES do not, which settles their byte order). Whatever is signed is judged as it is.
  const { file, pem, down, collateral, trust } = sampleCollateral("intel-qvl/tdx/");
  // The quote carries its chain as DER, root first, which nothing signs; it is given in PEM instead.
  const original = read(file("quote.dat"));
  const chain = Buffer.from(pem("pckCert.pem").join("") + down("pckSignChain.pem"));
  const quote = Buffer.concat([
    original.subarray(0, 636 + 128 + 6 + 384 + 64 + 2 + 2),
    Buffer.alloc(4),
    chain,
  ]);
  quote.writeUInt32LE(quote.length - 636, 632);
  quote.writeUInt32LE(quote.length - 770, 766);
  quote.writeUInt32LE(chain.length, 1222);
  const answers = new Answers();
  const at = new Date("2026-01-01");
  await rejects(verifyQuote(new Uint8Array(quote), collateral, at, trust, answers), { code: "qe/signer" });
  deepEqual(
    answers
      .list(["chain/platform", "tcb-info/platform", "qe/report-signature", "qe/key-binding"])
      .map(({ outcome }) => outcome),
    ["pass", "pass", "pass", "pass"],
  );
  const { attestationKey, signature, signed } = parseQuote(new Uint8Array(quote));
  const key = await importP256(Uint8Array.of(4, ...attestationKey));
  equal(await verifyP256(key!, signature, signed), true);
});

test("intel-qvl sgx: TCB info of version 2 is refused by name; a list of the verifying enclave is none of the quoting one", {
  skip,
}, async () => {
  const { collateral, trust } = sampleCollateral("intel-qvl/");
  await rejects(verifyCollateral(collateral, new Date("2026-01-01"), trust), { code: "tcb-info/version" });
  const identity = (name: string) => signedPart(text(`intel-qvl/${name}.json`), "enclaveIdentity")[0];
  equal(qeIdentitySchema(JSON.parse(identity("qeIdentity"))).id, "QE");
  throws(() => qeIdentitySchema(JSON.parse(identity("qveIdentity"))), { path: "id" });
  equal(parseQuote(read("intel-qvl/quote.dat")).version, 3);
});
