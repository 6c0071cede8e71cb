// SPDX-License-Identifier: Apache-2.0
/**
 * Examples: minted by the test PKIs, right ones and forged ones. No vendor's evidence is shipped; anybody can drop
 * their own.
 */

import { createHash } from "node:crypto";
import { runtimeEventDigest } from "@caisson/measure";
import { fold } from "@caisson/measure/rtmr";
import { eventLog } from "@caisson/measure/testing/synthetic";
import { amdHierarchy, issueReport, mintAmd } from "@caisson/simulated/amd-pki";
import { hierarchy, mint, type Times } from "@caisson/simulated/pki";
import { issueQuote } from "@caisson/simulated/quotes";
import { writeEvidenceDocument } from "@caisson/verify/evidence-document";
import { reportData } from "@caisson/verify/report-data";
import { toBase64, toHex } from "@caisson/vocabulary/bytes";

/** A file of an example: its text, which compresses, or bytes that are not UTF-8 in base64. */
export type ExampleFile = { name: string } & ({ text: string } | { base64: string });

/** One example as the page carries it; `trust` and `amdRoots` name the simulated roots. */
export interface Example {
  name: string;
  about: string;
  files: ExampleFile[];
  at: string;
  nonce: string;
  trust?: string;
  amdRoots?: { name: string; product: "Milan" | "Genoa" | "Turin"; keySha256: string }[];
}

const times: Times = { issued: new Date("2026-01-01T00:00:00Z"), expires: new Date("2027-01-01T00:00:00Z") };
const at = "2026-06-01T00:00:00Z";
const nonce = new Uint8Array(32).fill(0x5a);
const text = (value: string) => new TextEncoder().encode(value);
const json = (name: string, value: object) => ({ name, text: JSON.stringify(value) });

export function exampleFile(name: string, bytes: Uint8Array): ExampleFile {
  try {
    return { name, text: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes) };
  } catch {
    return { name, base64: toBase64(new Uint8Array(bytes)) };
  }
}
const sha384 = (data: Uint8Array) => new Uint8Array(createHash("sha384").update(data).digest());

/** A boot of few events, as a CCEL has them: register in index (1 is RTMR0), type, what was measured, its file. */
const boot = [
  { register: 0, type: 0x80000001, data: "SecureBoot", file: "firmware" },
  { register: 1, type: 0x80000003, data: "kernel", file: "kernel" },
  { register: 1, type: 0x80000007, data: "Calling EFI Application from Boot Option", file: "firmware" },
  { register: 2, type: 0x00000006, data: "LOADED_IMAGE::LoadOptions console=ttyS0 ro", file: "command line" },
] as const;

/** What a guest extended RTMR3 with, in order. */
const events = [
  ["system-preparing", ""],
  ["app-id", "\x01".repeat(20)],
  ["compose-hash", "\x02".repeat(32)],
  ["instance-id", "\x03".repeat(20)],
  ["boot-mr-done", ""],
  ["system-ready", ""],
].map(([name, payload]) => ({ name: name!, payload: text(payload!) }));

const digests = boot.map(({ data }) => sha384(text(data)));

/** The boot's event log, in TCG's format. */
const bootLog = eventLog(
  [[0x000c, 48]],
  boot.map(({ register, type, data }, i) => ({
    index: register + 1,
    type,
    digests: [[0x000c, digests[i]!]] as const,
    data: text(data),
  })),
);

/** The registers after boot and events, hexadecimal. */
async function registers(): Promise<Record<"mrtd" | "rtmr0" | "rtmr1" | "rtmr2" | "rtmr3", string>> {
  const booted = async (register: number) =>
    toHex(await fold(digests.filter((_, i) => boot[i]!.register === register)));
  const extended = await Promise.all(events.map(({ name, payload }) => runtimeEventDigest(name, payload)));
  return {
    mrtd: "4d".repeat(48),
    rtmr0: await booted(0),
    rtmr1: await booted(1),
    rtmr2: await booted(2),
    rtmr3: toHex(await fold(extended)),
  };
}

const tdxPolicy = json("policy.json", {
  version: "caisson/policy/v1",
  tcb: { minimumEvaluationNumber: 18 },
  platformIdentities: "any",
  events: { sequence: events.map(({ name }) => name) },
  app: { id: ["01".repeat(20)], composeHash: ["02".repeat(32)], instanceId: "any" },
  secureTime: "any",
  keyProviders: "any",
});

async function tdx(): Promise<Example[]> {
  const { mrtd, rtmr3, ...rtmr } = await registers();
  const h = hierarchy("page", times);
  const { collateral, pckChain, trust } = mint(h);
  const fields = { nonce };
  const quote = issueQuote(h, pckChain, {
    mrTd: mrtd,
    ...rtmr,
    rtmr3,
    reportData: toHex(await reportData("caisson/app/v1", fields)),
  });
  const evidence = (bytes: Uint8Array) =>
    json(
      "evidence.json",
      writeEvidenceDocument({
        platform: "tdx",
        quote: new Uint8Array(bytes),
        bootLog: { format: "tcg2", bytes: bootLog },
        runtimeEvents: events,
        reportData: { scheme: "caisson/app/v1", fields },
        collateral,
      }),
    );
  const prediction = json("prediction.json", {
    platform: "tdx",
    mrtd: { singlePass: mrtd, twoPass: mrtd },
    registers: rtmr,
    events: boot.map(({ register, data, file: source }, i) => ({
      register: `rtmr${register}`,
      digest: toHex(digests[i]!),
      what: data,
      source,
    })),
    files: { firmware: "OVMF.fd", kernel: "bzImage", "command line": "manifest.json: cmdline" },
  });
  const common = { at, nonce: toHex(nonce), trust: toHex(trust.rootKey) };
  const forged = Uint8Array.from(quote);
  // RTMR1: another kernel, under the same signature.
  forged[48 + 6 + 376]! ^= 1;
  return [
    {
      ...common,
      name: "A TDX guest (simulated)",
      about: "Quote, boot log, events, policy and prediction. Its root is a test PKI's.",
      files: [evidence(quote), tdxPolicy, prediction],
    },
    {
      ...common,
      name: "The same, forged: one bit of a register",
      about: "The quote's signature is over other registers.",
      files: [evidence(forged), tdxPolicy, prediction],
    },
  ];
}

function snp(): Example[] {
  const h = amdHierarchy("Genoa", times);
  h.report.reportData = `${toHex(nonce)}${"00".repeat(32)}`;
  const { roots, document } = mintAmd(h);
  const report = issueReport(h);
  const policy = json("policy.json", {
    version: "caisson/policy/v1",
    snp: {
      measurements: [h.report.measurement],
      minimumTcb: { Genoa: { snp: 24, microcode: 219 } },
      chipIds: "any",
    },
  });
  const forged = Uint8Array.from(report);
  forged[0x90]! ^= 1;
  const common = { at, nonce: toHex(nonce), amdRoots: roots };
  const collateral = json("amd.json", document);
  return [
    {
      ...common,
      name: "A SEV-SNP guest (simulated)",
      about: "Report of a Genoa, its certificates, a policy. Its root is a test PKI's.",
      files: [exampleFile("report.bin", report), collateral, policy],
    },
    {
      ...common,
      name: "The same, forged: another measurement",
      about: "The report is not signed by the key that its certificate names.",
      files: [exampleFile("report.bin", forged), collateral, policy],
    },
  ];
}

export const examples = async (): Promise<Example[]> => [...(await tdx()), ...snp()];
