// SPDX-License-Identifier: Apache-2.0
/**
 * A policy that pins what evidence shows: a start for people who have a machine that they trust and want to go on
 * recognising it. Every line says what it means and how to loosen it. It claims nothing about the evidence: whoever uses it
 * has decided that this machine is right.
 */
import { isZero, toHex } from "@caisson/vocabulary/bytes";
import { bootEvents } from "@caisson/vocabulary/events";
import { provesHardware } from "@caisson/vocabulary/platforms";
import type { GenuineSnp } from "../amd/genuine.ts";
import { snpLines } from "../amd/policy-from.ts";
import { nitroLines } from "../aws/policy-from.ts";
import { type AnyEvidence, type Evidence, isQuote, type LoggedEvent } from "../evidence/evidence.ts";
import type { Genuine } from "../intel/genuine.ts";
import type { PckExtension } from "../intel/pck.ts";
import { type EnclaveReport, parseQuote, type TdReport } from "../intel/quote.ts";
import { ownPck } from "../intel/quote-chain.ts";
import { type Line, list, quoted } from "./policy-lines.ts";

/**
 * The policy as YAML with comments. `genuine` is what verification said of the quote, where there was collateral; without
 * it what only collateral tells is left open. Throws VerifyError "quote/…" for what is not a quote.
 */
export function policyFrom(evidence: AnyEvidence, genuine: Genuine | GenuineSnp | undefined): string {
  const lines: Line[] = [
    ["version: caisson/policy/v1"],
    ...linesOf(evidence, genuine),
    ...pcrLines(evidence),
  ];
  const text = lines.map(([yaml, comment]) =>
    comment === undefined ? yaml : `${yaml.match(/^ */)![0]}# ${comment}\n${yaml}`,
  );
  const head =
    "# Pins what one piece of evidence showed. Nothing of it was judged by writing it down:\n" +
    "# use it if you know that this machine is the right one. `caisson policy explain` says what it accepts.\n" +
    "# Evidence must bind a nonce of yours (--nonce); `freshness: any` would accept it at any age.\n";
  return `${head}${text.join("\n")}\n`;
}

function linesOf(evidence: AnyEvidence, genuine: Genuine | GenuineSnp | undefined): Line[] {
  if (isQuote(evidence)) {
    return quoteLines(evidence, genuine !== undefined && "quote" in genuine ? genuine : undefined);
  }
  return evidence.platform === "nitro"
    ? nitroLines(evidence.document)
    : snpLines(evidence.report, genuine !== undefined && "report" in genuine ? genuine : undefined);
}

/** PCRs of the virtual TPM, where the hardware's measurements cover the paravisor alone. */
function pcrLines({ hcl }: AnyEvidence): Line[] {
  if (hcl === undefined) return [];
  if (hcl.quote === undefined)
    return [["pcrs: any", "there is no quote of the virtual TPM: what the guest booted is not known"]];
  return [
    ["pcrs:", "what the guest booted, measured into the virtual TPM; leave out what may differ"],
    ...hcl.quote.pcrs.map((value, i): Line => [`  "${i}": ${list(toHex(value))}`]),
  ];
}

function quoteLines(evidence: Evidence, genuine: Genuine | undefined): Line[] {
  const quote = parseQuote(evidence.quote);
  const { body } = quote;
  return [
    ...(body.tee === "sgx" ? [] : [platformLine(evidence.platform)]),
    ...tcbLines(genuine),
    ...platformLines(genuine?.pck ?? ownPck(quote).pck),
    ...(body.tee === "sgx" ? enclaveLines(body.report) : tdLines(body.report, evidence.runtimeEvents ?? [])),
  ];
}

const platformLine = (platform: Evidence["platform"]): Line => [
  `platforms: [${platform}]`,
  provesHardware[platform]
    ? "hardware alone: what is emulated proves nothing"
    : "this proves nothing about hardware",
];

function tcbLines(genuine: Genuine | undefined): Line[] {
  if (genuine === undefined) {
    return [
      ["tcb:"],
      ["  minimumEvaluationNumber: any", "least tcbEvaluationDataNumber; not known here without collateral"],
    ];
  }
  const { status, advisories, evaluationDataNumber } = genuine.tcb;
  return [
    ["tcb:"],
    [
      `  statuses: ${list(status)}`,
      "what Intel says of the platform's firmware; UpToDate alone when left out",
    ],
    [`  advisories: ${list(...advisories)}`, "advisories that it may be open to"],
    [`  minimumEvaluationNumber: ${evaluationDataNumber}`, "older collateral is refused; raise it over time"],
  ];
}

function platformLines(pck: PckExtension | undefined): Line[] {
  if (pck === undefined)
    return [["platformIdentities: any", "the quote carries no certificate of its platform"]];
  return [
    [`platformIdentities: ${list(pck.ppid)}`, "this one machine; any: every platform that Intel vouches for"],
    ...(pck.piid === undefined
      ? []
      : ([
          [
            `platformInstances: ${list(pck.piid)}`,
            "as it is registered now; without the line: after that, too",
          ],
        ] satisfies Line[])),
    [`fmspcs: ${list(pck.fmspc)}`, "this kind of platform (family, model, stepping); leave out for any"],
  ];
}

function enclaveLines(report: EnclaveReport): Line[] {
  return [
    ["sgx:"],
    [
      `  mrEnclave: ${list(toHex(report.mrEnclave))}`,
      "exactly this code; instead: the three lines below alone",
    ],
    [`  mrSigner: ${list(toHex(report.mrSigner))}`, "whoever signed it"],
    [`  isvProdId: ${report.isvProdId}`, "the signer's number of the product"],
    [`  minimumIsvSvn: ${report.isvSvn}`, "and its least version"],
  ];
}

function tdLines(td: TdReport, events: readonly LoggedEvent[]): Line[] {
  const identity = (name: string, bytes: Uint8Array, comment: string): Line[] =>
    isZero(bytes) ? [] : [[`  ${name}: ${list(toHex(bytes))}`, comment]];
  const serviceTd: Line =
    td.mrServiceTd === undefined
      ? ["  mrServiceTd: any", "a TD 1.0 report does not say whether a service TD is bound to it"]
      : [`  mrServiceTd: ${list(toHex(td.mrServiceTd))}`, "the service TD that is bound to it; zero: none"];
  return [
    ["td:"],
    [
      `  attributes: ${list(toHex(td.tdAttributes))}`,
      "TD attributes, whole; a debug TD is refused in any case",
    ],
    [`  xfam: ${list(toHex(td.xfam))}`, "processor features that the TD may use"],
    [`  mrSignerSeam: ${list(toHex(td.mrSignerSeam))}`, "who signed the TDX module; zero: Intel"],
    [`  minimumTeeTcbSvn: ${quoted(toHex(td.teeTcbSvn))}`, "least versions of TDX module and loader"],
    serviceTd,
    ...identity("mrConfigId", td.mrConfigId, "what the TD's owner configured at its start"),
    ...identity("mrOwner", td.mrOwner, "the TD's owner"),
    ...identity("mrOwnerConfig", td.mrOwnerConfig, "the owner's configuration"),
    ["references:"],
    ["  - name: as seen", "registers: firmware, machine, kernel, command line and initrd"],
    [`    mrtd: ${quoted(toHex(td.mrTd))}`],
    [`    rtmr0: ${quoted(toHex(td.rtmrs[0]))}`],
    [`    rtmr1: ${quoted(toHex(td.rtmrs[1]))}`],
    [`    rtmr2: ${quoted(toHex(td.rtmrs[2]))}`],
    ...(events.length === 0 ? withoutEvents(td) : eventLines(events)),
  ];
}

function withoutEvents(td: TdReport): Line[] {
  const none: Line = [
    "runtimeEvents: none",
    "no log of RTMR3: it is compared as a register, zero unless stated",
  ];
  if (isZero(td.rtmrs[3])) return [none];
  return [
    none,
    ["registers:"],
    [`  rtmr3: ${list(toHex(td.rtmrs[3]))}`, "any: whatever the guest measures later"],
  ];
}

/** Rules of events that a Caisson guest, and dstack, name alike. */
function eventLines(events: readonly LoggedEvent[]): Line[] {
  const names = events.map(({ name }) => name);
  const payload = (name: string) => events.find((event) => event.name === name)?.payload;
  const app = (field: string, name: string, comment: string): Line => {
    const bytes = payload(name);
    const known = bytes !== undefined && bytes.length > 0 && bytes.length <= 64;
    return [`  ${field}: ${known ? list(toHex(bytes)) : "any"}`, comment];
  };
  const caisson = names.length >= bootEvents.length && bootEvents.every((name, i) => names[i] === name);
  return [
    ...(caisson
      ? []
      : ([
          ["events:"],
          [`  sequence: ${list(...names)}`, "events of RTMR3, in this order; the last one is the boundary"],
        ] satisfies Line[])),
    ["app:"],
    app("id", "app-id", "which application"),
    app("composeHash", "compose-hash", "exactly this version and configuration of it"),
    app("instanceId", "instance-id", "this one instance; any: every one of the application"),
    ...(caisson ? [] : ([["secureTime: any", "the guest says nothing of its clock"]] satisfies Line[])),
    ["keyProviders: any", "who gave it its keys; [{name: kms, id: …}] names one"],
  ];
}
