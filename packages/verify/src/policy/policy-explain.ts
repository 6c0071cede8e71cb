// SPDX-License-Identifier: Apache-2.0
/** What a policy accepts, rule by rule: stated, by default, or left open. For people who have to sign off on one. */
import type { Policy } from "./policy.ts";

/** One rule. `state`: the policy says it, the default holds, it is open, or it is missing so that nothing is accepted. */
export interface Rule {
  name: string;
  state: "stated" | "default" | "open" | "missing";
  /** What is accepted. */
  accepted: string;
  meaning: string;
}

type Given = unknown;
interface Row {
  name: string;
  meaning: string;
  value: (policy: Policy) => Given;
  /** What holds when it is left out; undefined: the policy then accepts nothing. */
  absent: string | undefined;
  /** Whether leaving it out leaves it open. */
  openWhenAbsent?: true;
}

const row = (
  name: string,
  value: Row["value"],
  absent: string | undefined,
  meaning: string,
  openWhenAbsent?: true,
): Row => ({ name, value, absent, meaning, ...(openWhenAbsent && { openWhenAbsent }) });

const common: readonly Row[] = [
  row("platforms", (p) => p.platforms, "tdx", "kinds of machine; emulated proves nothing about hardware"),
  row("simulatedRoot", (p) => p.simulatedRoot, "none", "whose root signs for emulated machines"),
  row("tcb.statuses", (p) => p.tcb?.statuses, "UpToDate", "what Intel may say of the platform's firmware"),
  row("tcb.advisories", (p) => p.tcb?.advisories, "none", "known weaknesses that it may still have"),
  row(
    "tcb.minimumEvaluationNumber",
    (p) => p.tcb?.minimumEvaluationNumber,
    undefined,
    "how old the collateral may be",
  ),
  row("platformIdentities", (p) => p.platformIdentities, undefined, "which machines, one by one (PPID)"),
  row("platformInstances", (p) => p.platformInstances, "any", "which registrations of them (PIID)", true),
  row("fmspcs", (p) => p.fmspcs, "any kind of platform", "which kinds of machine", true),
];

const ofEnclaves: readonly Row[] = [
  row("sgx.mrEnclave", (p) => p.sgx?.mrEnclave, "not stated: the signer decides", "exactly which code"),
  row("sgx.mrSigner", (p) => p.sgx?.mrSigner, "not stated: MRENCLAVE decides", "whose code"),
  row("sgx.isvProdId", (p) => p.sgx?.isvProdId, "not stated", "which product of the signer's"),
  row("sgx.minimumIsvSvn", (p) => p.sgx?.minimumIsvSvn, "not stated", "and its least version"),
];

const ofSnp: readonly Row[] = [
  row(
    "snp.measurements",
    (p) => p.snp?.measurements,
    "a reference's, or whatever idKeys signed",
    "what was launched",
  ),
  row("snp.hostData", (p) => p.snp?.hostData, "zero", "what the host bound at the launch"),
  row("snp.privilegeLevels", (p) => p.snp?.privilegeLevels, "0", "who in the guest may have asked"),
  row("snp.permits", (p) => p.snp?.permits, "smt", "what the guest may permit its host; debugging never"),
  row("snp.demands", (p) => p.snp?.demands, "nothing", "what the guest must demand of its host"),
  row("snp.platformInfo", (p) => p.snp?.platformInfo, "nothing", "what the platform must have on"),
  row("snp.idKeys", (p) => p.snp?.idKeys, "any, or no ID block", "who signed what was launched", true),
  row("snp.authorKeys", (p) => p.snp?.authorKeys, "any, or none", "who vouches for those keys", true),
  row("snp.familyIds", (p) => p.snp?.familyIds, "any", "the signer's family of images", true),
  row("snp.imageIds", (p) => p.snp?.imageIds, "any", "the signer's name of the image", true),
  row("snp.minimumGuestSvn", (p) => p.snp?.minimumGuestSvn, "any", "and its least version", true),
  row("snp.products", (p) => p.snp?.products, "Genoa or Turin", "which generations of processors"),
  row("snp.minimumTcb", (p) => p.snp?.minimumTcb, undefined, "how old the platform's firmware may be"),
  row("snp.chipIds", (p) => p.snp?.chipIds, undefined, "which chips, one by one"),
  row("snp.providers", (p) => p.snp?.providers, "any", "whose VLEKs", true),
  row(
    "snp.revocation",
    (p) => p.snp?.revocation,
    "the list must be there",
    "whether AMD's revocations must be known",
  ),
];
const ofNitro: readonly Row[] = [
  row(
    "nitro.kinds",
    (p) => p.nitro?.kinds,
    "tpm",
    "an enclave, or a machine with a NitroTPM; AWS is trusted",
  ),
  row("nitro.pcrs", (p) => p.nitro?.pcrs, undefined, "what was started"),
  row("nitro.modules", (p) => p.nitro?.modules, "any", "which machines, one by one", true),
  row(
    "nitro.publicKeys",
    (p) => p.nitro?.publicKeys,
    "any, or none",
    "a key that the machine had bound",
    true,
  ),
  row("nitro.userData", (p) => p.nitro?.userData, "any, or none", "bytes that the machine had bound", true),
];
const ofTpms = row("pcrs", (p) => p.pcrs, "", "PCRs of Azure's virtual TPM: what the guest booted");
const freshness = row(
  "freshness",
  (p) => p.freshness,
  "a nonce of the verifier's",
  "whether old evidence can be shown again",
);

const ofTds: readonly Row[] = [
  row(
    "td.attributes",
    (p) => p.td?.attributes,
    "SEPT_VE_DISABLE alone",
    "TD attributes; a debug TD never passes",
  ),
  row("td.xfam", (p) => p.td?.xfam, "any that the TDX module permits", "processor features of the TD"),
  row("td.mrSeam", (p) => p.td?.mrSeam, "as the TCB info says", "which TDX module, exactly"),
  row("td.mrSignerSeam", (p) => p.td?.mrSignerSeam, "as the TCB info says", "who signed the TDX module"),
  row(
    "td.minimumTeeTcbSvn",
    (p) => p.td?.minimumTeeTcbSvn,
    "as the TCB info says",
    "least versions of module and loader",
  ),
  row("td.mrServiceTd", (p) => p.td?.mrServiceTd, "zero", "a service TD can move the TD to another host"),
  row("td.mrConfigId", (p) => p.td?.mrConfigId, "zero", "what its owner configured at its start"),
  row("td.mrOwner", (p) => p.td?.mrOwner, "zero", "its owner"),
  row("td.mrOwnerConfig", (p) => p.td?.mrOwnerConfig, "zero", "its owner's configuration"),
  row("registers.mrtd", (p) => p.registers?.mrtd, "a reference's", "the firmware"),
  row("registers.rtmr0", (p) => p.registers?.rtmr0, "a reference's", "the machine and its ACPI byte code"),
  row(
    "registers.hostAcpi",
    (p) => p.registers?.hostAcpi,
    "no byte code but a reference's",
    "what ACPI the host may run in the guest",
  ),
  row("registers.rtmr1", (p) => p.registers?.rtmr1, "a reference's", "the kernel"),
  row(
    "registers.rtmr2",
    (p) => p.registers?.rtmr2,
    "a reference's",
    "command line and initrd, and through it the root",
  ),
  row(
    "references",
    (p) => p.references?.map(({ name }, i) => name ?? `[${i}]`),
    "those given beside the policy",
    "which registers are right",
  ),
  row("events.bootLog", (p) => p.events?.bootLog, "optional", "whether the firmware's log must be there"),
];

const ofEvents: readonly Row[] = [
  row(
    "events.sequence",
    (p) => p.events?.sequence,
    "a Caisson guest's eight events",
    "what the guest measured, in order",
  ),
  row("events.afterBoundary", (p) => p.events?.afterBoundary, "nothing", "what it may measure later"),
  row("app.id", (p) => p.app?.id, undefined, "which application"),
  row("app.composeHash", (p) => p.app?.composeHash, undefined, "which version and configuration of it"),
  row(
    "app.identity",
    (p) => p.app?.identity,
    "no releases are asked for",
    "whose signed releases say which images run",
  ),
  row("app.instanceId", (p) => p.app?.instanceId, undefined, "which instance of it"),
  row(
    "volumes",
    (p) => p.volumes,
    "what the sequence of events says",
    "which disks that outlive it the machine opens",
  ),
  row(
    "secureTime",
    (p) => p.secureTime,
    "three operators over NTS, named in the image",
    "how it knows the time",
  ),
  row("keyProviders", (p) => p.keyProviders, undefined, "who gave it its keys"),
];

const withoutEvents: readonly Row[] = [
  row("runtimeEvents", (p) => p.runtimeEvents, "", "no events: application, time and keys are not asked for"),
  row("registers.rtmr3", (p) => p.registers?.rtmr3, "zero", "what the guest measured itself"),
];

/** The rules that the policy's kind of TEE is judged by, in the order of a report. */
export function explainPolicy(policy: Policy): Rule[] {
  const own =
    policy.sgx !== undefined
      ? ofEnclaves
      : [...ofTds, ...(policy.runtimeEvents === "none" ? withoutEvents : ofEvents)];
  const rows = policy.snp !== undefined ? ofSnp : policy.nitro !== undefined ? ofNitro : [...common, ...own];
  const withTpm = policy.pcrs === undefined ? [] : [ofTpms];
  return [...rows, ...withTpm, freshness].map(({ name, meaning, value, absent, openWhenAbsent }) => {
    const given = value(policy);
    if (given === undefined) {
      const state = absent === undefined ? "missing" : openWhenAbsent ? "open" : "default";
      return { name, state, accepted: absent ?? "nothing: it must be stated", meaning };
    }
    return { name, state: given === "any" ? "open" : "stated", accepted: shown(given), meaning };
  });
}

function shown(value: Given): string {
  if (Array.isArray(value)) return value.length === 0 ? "none" : value.map(shown).join(" or ");
  if (typeof value === "object" && value !== null) {
    return Object.entries(value)
      .map(([key, inner]) => `${key} ${shown(inner)}`)
      .join(", ");
  }
  return String(value);
}
