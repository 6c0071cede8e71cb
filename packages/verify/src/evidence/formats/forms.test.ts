// SPDX-License-Identifier: Apache-2.0
/** Every form of evidence: read as what it is, or refused by the form that recognises it. */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { hierarchy, mint } from "@caisson/simulated/pki";
import { issueQuote } from "@caisson/simulated/quotes";
import fc from "fast-check";
import { VerifyError } from "../../errors.ts";
import type { TdReport } from "../../intel/quote.ts";
import { checkRuntimeEvents } from "../../policy/event-rules.ts";
import { readPolicy } from "../../policy/policy.ts";
import { Answers } from "../../report.ts";
import { readDstackQuote } from "./dstack.ts";
import { forms, readEvidence } from "./forms.ts";

const times = { issued: new Date("2026-01-01T00:00:00Z"), expires: new Date("2027-01-01T00:00:00Z") };
const h = hierarchy("forms", times);
const quote = Buffer.from(issueQuote(h, mint(h).pckChain, {}, "td10-v4"));
const hex = quote.toString("hex");
const base64 = quote.toString("base64");
const wrapped = (text: string) => text.replace(/.{64}/g, "$&\n");
const utf8 = (text: string) => new TextEncoder().encode(text);

for (const [name, input] of [
  ["binary", new Uint8Array(quote)],
  ["hexadecimal", utf8(hex)],
  ["hexadecimal in capitals", utf8(hex.toUpperCase())],
  ["hexadecimal with 0x", utf8(`0x${hex}\n`)],
  ["hexadecimal with 0X", utf8(`0X${hex}`)],
  ["hexadecimal in lines", utf8(`${wrapped(hex)}\r\n`)],
  ["base64", utf8(base64)],
  ["base64 in lines", utf8(wrapped(base64))],
  ["JSON with hexadecimal", utf8(JSON.stringify({ quote: hex }))],
  ["JSON with 0x", utf8(JSON.stringify({ quote: `0x${hex}` }))],
  ["JSON with base64 and more", utf8(JSON.stringify({ quote: base64, chain: [] }))],
] as const) {
  test(`a quote as ${name}`, () =>
    deepEqual(readEvidence(input), { platform: "tdx", quote: new Uint8Array(quote) }));
}

const log = Uint8Array.from({ length: 70 }, (_, i) => i);
test("CoCo's TDX evidence brings its log", () => {
  const document = { quote: base64, cc_eventlog: Buffer.from(log).toString("base64"), aa_eventlog: "" };
  deepEqual(readEvidence(utf8(JSON.stringify(document))), {
    platform: "tdx",
    quote: new Uint8Array(quote),
    bootLog: { format: "tcg2", bytes: log },
  });
});

const u32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};

/** An HCL report around runtime data; kind 2 is SEV-SNP's, 4 a TD's. */
function hclReport(kind: number, hardware = new Uint8Array(1184), runtime = utf8('{"keys":[]}')): Buffer {
  return Buffer.concat([
    utf8("HCLA"),
    ...[1, 1216 + 20 + runtime.length, 2, 0, 0, 0, 0].map(u32),
    hardware,
    ...[runtime.length + 20, 1, kind, 1, runtime.length].map(u32),
    runtime,
    new Uint8Array(9),
  ]);
}
const azure = {
  version: 1,
  td_quote: quote.toString("base64url"),
  hcl_report: hclReport(4).toString("base64url"),
  tpm_quote: { message: "00", signature: "00", pcrs: ["00".repeat(32)] },
};
for (const [name, document] of [
  ["Azure's TDX evidence", azure],
  ["the same inside a document that names its platform", { platform: "az-tdx", evidence: azure }],
] as const) {
  test(`${name}: the quote is read`, () => {
    const evidence = readEvidence(utf8(JSON.stringify(document)));
    deepEqual(evidence, {
      platform: "tdx",
      quote: new Uint8Array(quote),
      hcl: {
        runtimeData: new Uint8Array(utf8('{"keys":[]}')),
        quote: { message: new Uint8Array(1), signature: new Uint8Array(1), pcrs: [new Uint8Array(32)] },
      },
    });
  });
}

test("documents inside documents inside documents are not followed", () => {
  const depth = 50_000;
  const nested = `${'{"platform":"x","evidence":'.repeat(depth)}{}${"}".repeat(depth)}`;
  throws(() => readEvidence(utf8(nested)), { code: "evidence/unsupported" });
});

const snpReport = new Uint8Array(1184);
snpReport.set([2], 0);
snpReport.set([1], 0x34);
const bytesOf = (size: number, value: number) => new Uint8Array(size).fill(value);
const derOf = (value: number) => Buffer.from(bytesOf(30, value));
const pemOf = (bytes: Buffer) =>
  `-----BEGIN CERTIFICATE-----\n${bytes.toString("base64")}\n-----END CERTIFICATE-----\n`;

/** The host's table: GUID, offset, length; the certificates behind it. */
function table(...entries: [guid: string, bytes: Uint8Array][]): Buffer {
  let offset = 24 * (entries.length + 1);
  const rows = entries.map(([guid, bytes]) => {
    const row = Buffer.concat([Buffer.from(guid, "hex"), u32(offset), u32(bytes.length)]);
    offset += bytes.length;
    return row;
  });
  return Buffer.concat([...rows, new Uint8Array(24), ...entries.map(([, bytes]) => bytes)]);
}
const guids = {
  vcek: "8d75da6364e66445adc5f4b93be8accd",
  ask: "79b3b74aacbbe44fa02f05aef327c782",
  ark: "a406b4c003a8524997433fb6014cd0ae",
  other: "0f".repeat(16),
};
const wholeTable = table(
  [guids.ark, bytesOf(30, 3)],
  [guids.other, bytesOf(5, 9)],
  [guids.vcek, bytesOf(30, 1)],
  [guids.ask, bytesOf(30, 2)],
);
const snp = (collateral?: object) => ({
  platform: "snp",
  report: snpReport,
  ...(collateral && { collateral }),
});
const threeCertificates = { endorsement: bytesOf(30, 1), chain: [bytesOf(30, 2), bytesOf(30, 3)] };
const report64 = Buffer.from(snpReport).toString("base64");
const hcl = { runtimeData: new Uint8Array(utf8('{"keys":[]}')) };

for (const [name, input, expected] of [
  ["a report", snpReport, snp()],
  ["a report in hexadecimal", utf8(Buffer.from(snpReport).toString("hex")), snp()],
  ["a report with zeros behind it", Buffer.concat([snpReport, new Uint8Array(2912)]), snp()],
  ["a report with its table", Buffer.concat([snpReport, wholeTable]), snp(threeCertificates)],
  ["a report called a quote", utf8(JSON.stringify({ quote: report64 })), snp()],
  ["CoCo's", utf8(JSON.stringify({ attestation_report: report64, cert_chain: null })), snp({})],
  [
    "CoCo's with certificates by name",
    utf8(JSON.stringify({ attestation_report: report64, cert_chain: { vcek: derOf(1).toString("base64") } })),
    snp({ endorsement: bytesOf(30, 1) }),
  ],
  [
    "CoCo's with a list of certificates",
    utf8(
      JSON.stringify({
        attestation_report: report64,
        cert_chain: [
          { cert_type: "VCEK", data: [...derOf(1)] },
          { cert_type: "ASK", data: [...derOf(2)] },
          { cert_type: "ARK", data: derOf(3).toString("base64") },
        ],
      }),
    ),
    snp(threeCertificates),
  ],
  ["an HCL report", hclReport(2, snpReport), { ...snp(), hcl }],
  [
    "Azure's",
    utf8(
      JSON.stringify({ hcl_report: hclReport(2, snpReport).toString("base64url"), vcek: pemOf(derOf(1)) }),
    ),
    { ...snp({ endorsement: bytesOf(30, 1) }), hcl },
  ],
] as const) {
  test(`SEV-SNP evidence: ${name}`, () => deepEqual(readEvidence(new Uint8Array(input)), expected));
}

for (const [name, input] of [
  ["a table without an end", Buffer.concat([snpReport, wholeTable.subarray(0, 90)])],
  ["a table that points outside", Buffer.concat([snpReport, wholeTable.subarray(0, -1)])],
  ["two VCEKs", Buffer.concat([snpReport, table([guids.vcek, derOf(1)], [guids.vcek, derOf(2)])])],
  ["CoCo's with fields instead of a report", utf8('{"attestation_report":{},"cert_chain":[]}')],
  ["an HCL report that is cut", hclReport(2).subarray(0, 1240)],
  ["an HCL report of another size than it says", Buffer.from(hclReport(2)).fill(7, 8, 9)],
  ["an HCL report whose runtime data has another size", Buffer.from(hclReport(2)).fill(7, 1216, 1217)],
  ["an HCL report with something reserved", Buffer.from(hclReport(2)).fill(7, 31, 32)],
  ["an HCL report with bytes behind it", Buffer.concat([hclReport(2), Buffer.of(1)])],
  ["an HCL report of another kind", hclReport(3)],
  [
    "Azure's with another guest's HCL report",
    utf8(JSON.stringify({ ...azure, hcl_report: hclReport(2).toString("base64url") })),
  ],
] as const) {
  test(`malformed SEV-SNP evidence: ${name}`, () =>
    throws(() => readEvidence(input), { code: "evidence/malformed" }));
}

for (const [name, input, expected] of [
  ["a TD's HCL report by itself", hclReport(4), /no quote/],
  ["text", utf8("hello, world"), /not evidence in a form/],
  ["nothing", new Uint8Array(), /not evidence in a form/],
  ["other JSON", utf8("{}"), /not evidence in a form/],
  ["a quote of version 6", Uint8Array.of(6, 0, 2, 0), /not evidence in a form/],
] as const) {
  test(`unsupported, and said by name: ${name}`, () =>
    throws(
      () => readEvidence(input),
      (error) => {
        ok(error instanceof VerifyError);
        equal(error.kind, "unsupported");
        return expected.test(error.message);
      },
    ));
}

for (const [name, input] of [
  ["a cut JSON", utf8('{"quote":"00')],
  ["a quote that is not bytes", utf8('{"quote":"zz"}')],
  ["a document of another version", utf8('{"version":"caisson/evidence/v2"}')],
] as const) {
  test(`malformed: ${name}`, () =>
    throws(() => readEvidence(input), { code: "evidence/malformed", kind: "input" }));
}

test("each form says what it is recognised by, under a name of its own", () => {
  equal(new Set(forms.map(({ name }) => name)).size, forms.length);
  for (const { recognised } of forms) ok(recognised.length > 10);
});

test("any bytes and any text are read or refused", () => {
  const texts = fc.oneof(fc.string(), fc.json(), fc.stringMatching(/^0?[xX]?[0-9a-f\s]{0,80}$/));
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 1300 }), texts.map(utf8)), (input) => {
      try {
        readEvidence(input);
      } catch (error) {
        ok(error instanceof VerifyError, String(error));
      }
    }),
  );
});

// dstack's log: one parser decides what an event's digest is.
const sha384 = (...parts: (string | Uint8Array)[]) =>
  parts.reduce((hash, part) => hash.update(part), createHash("sha384")).digest();
const payload = Buffer.from("00ff", "hex");
const v1 = sha384(Uint8Array.of(1, 0, 0, 8), ":app-id:", payload);
const v2 = sha384('{"name":"app-id","payload":"00ff","type":134217729}');
const record = (change: object) => ({
  imr: 3,
  event_type: 0x08000001,
  digest: "",
  event: "app-id",
  event_payload: "00ff",
  ...change,
});
const answer = (...events: object[]) => ({ quote: hex, event_log: JSON.stringify(events) });

async function replays(document: object, digest: Uint8Array): Promise<string> {
  const evidence = readDstackQuote(document);
  const rtmr3 = new Uint8Array(sha384(new Uint8Array(48), digest));
  const td = { rtmrs: [rtmr3, rtmr3, rtmr3, rtmr3] } as Partial<TdReport> as TdReport;
  const answers = new Answers();
  const policy = readPolicy({ version: "caisson/policy/v1", events: { sequence: ["app-id"] } });
  await checkRuntimeEvents(evidence.runtimeEvents!, td, policy, answers);
  return answers.list(["events/runtime-replay"])[0]!.outcome;
}

for (const [name, change, digest, outcome] of [
  ["version 1", {}, v1, "pass"],
  ["version 2", { version: 2 }, v2, "pass"],
  ["version 2 that was extended as version 1", { version: 2 }, v1, "fail"],
  ["a logged digest that is right", { version: 2, digest: v2.toString("hex") }, v2, "pass"],
  ["a logged digest of the other version", { digest: v2.toString("hex") }, v1, "fail"],
] as const) {
  test(`dstack's runtime events replay: ${name}: ${outcome}`, async () =>
    equal(await replays(answer(record(change)), digest), outcome));
}

test("dstack's log may be a list instead of a text", async () => {
  equal(await replays({ quote: hex, event_log: [record({})] }, v1), "pass");
});

for (const [name, change, code] of [
  ["an unknown version", { version: 3 }, "evidence/malformed"],
  ["a runtime event outside RTMR3", { imr: 0 }, "evidence/malformed"],
  ["a register that there is not", { imr: 4 }, "evidence/malformed"],
  ["a boot event without digest", { imr: 0, event_type: 1 }, "evidence/malformed"],
  ["an event of another type in RTMR3", { event_type: 1, digest: "00".repeat(48) }, "evidence/unsupported"],
] as const) {
  test(`refused dstack log: ${name}`, () => throws(() => readDstackQuote(answer(record(change))), { code }));
}
