// SPDX-License-Identifier: Apache-2.0
/**
 * Policy: what a relying party wants of a TD whose quote is genuine.
 *
 * A policy opens, it never forgets. What it leaves out has either a strict default (debug off, no service TD, zero
 * MRCONFIGID, status UpToDate, no advisories…) or, where no default can be right (which image, which application,
 * which keys), is a refusal that says so. To leave such a rule open, the policy says `any`, and the report lists it
 * as not checked. The empty policy therefore accepts nothing.
 */

import { provenanceRules } from "@caisson/releases/provenance";
import { type Platform, platforms, provesHardware } from "@caisson/vocabulary/platforms";
import {
  either,
  hex,
  type Infer,
  integer,
  list,
  object,
  oneOf,
  optional,
  record,
  type Schema,
  SchemaError,
  text,
} from "@caisson/vocabulary/schema";
import { type Product, products, type TcbComponent, tcbComponents } from "../amd/products.ts";
import { platformBits, policyBits } from "../amd/report.ts";
import { VerifyError } from "../errors.ts";
import { tcbStatuses } from "../intel/tcb.ts";
import { rtmr0EventsSchema } from "./reference.ts";

const any = oneOf("any");
const policyDemands = Object.keys(policyBits.demands) as (keyof typeof policyBits.demands)[];
const platformDemands = (Object.keys(platformBits) as (keyof typeof platformBits)[]).filter(
  (name) => name !== "smt",
);
const eventName = text("an event name of A-Z a-z 0-9 . _ -, at most 64", /^[A-Za-z0-9._-]+$/, 64);

/** A list of values that are accepted, or the word `any`. */
function listOrAny<T>(item: Schema<T>): Schema<T[] | "any"> {
  return either('a list of accepted values, or "any"', list(item, 1, 256), any);
}

/** A TCB minimum of AMD's: components that are left out are not asked. */
const tcbMinimum = object(
  Object.fromEntries(tcbComponents.map((name) => [name, optional(integer(0, 255))])) as Record<
    TcbComponent,
    ReturnType<typeof optional<number>>
  >,
);
const vmpls = list(integer(0, 3), 1, 4);

/** What is accepted of a SEV-SNP guest. */
const snpRules = object({
  /** Launch digests. Without them a reference's, or an `idKeys`, must say what was launched. */
  measurements: optional(listOrAny(hex(48))),
  /** What the host bound at the launch. Default: zero. */
  hostData: optional(listOrAny(hex(32))),
  /** Privilege levels at which the report may have been asked for. Default: 0 alone. */
  privilegeLevels: optional(either('a list of levels, or "any"', vmpls, any)),
  /** Of the guest's policy: what it may permit (default: smt), and what it must demand (default: nothing). Debug never. */
  permits: optional(list(oneOf("smt", "migration-agent", "cxl"), 0, 3)),
  demands: optional(list(oneOf(...policyDemands), 0, policyDemands.length)),
  /** What the platform must have on (PLATFORM_INFO). Default: nothing. */
  platformInfo: optional(list(oneOf(...platformDemands), 0, platformDemands.length)),
  /** SHA-384 of the keys that may have signed the ID block, and of those above them. Default: any, and none needed. */
  idKeys: optional(list(hex(48), 1, 256)),
  authorKeys: optional(list(hex(48), 1, 256)),
  familyIds: optional(list(hex(16), 1, 256)),
  imageIds: optional(list(hex(16), 1, 256)),
  /** Least GUEST_SVN. */
  minimumGuestSvn: optional(integer(0, 0xffffffff)),
  /** Default: Genoa and Turin. Of Milan the root secret of a chip can be taken by software: name its chips. */
  products: optional(list(oneOf(...products), 1, products.length)),
  /**
   * Least patch levels of reported, committed and launch TCB. "listed": those that are known here (`minimums.ts`). No
   * default.
   */
  minimumTcb: optional(
    either(
      'levels by product, "listed", or "any"',
      object(
        Object.fromEntries(products.map((name) => [name, optional(tcbMinimum)])) as Record<
          Product,
          ReturnType<typeof optional<Infer<typeof tcbMinimum>>>
        >,
      ),
      oneOf("listed", "any"),
    ),
  ),
  /** Accepted chips: 64 bytes, or Turin's 8. No default. */
  chipIds: optional(listOrAny(either("8 or 64 bytes", hex(64), hex(8)))),
  /** Accepted providers of VLEKs, as the certificate names them. Default: any. */
  providers: optional(list(text("a provider's name", /^[\x20-\x7e]+$/, 256), 1, 64)),
  /** "any": a missing list of revocations is accepted. */
  revocation: optional(any),
});

const nitroRules = object({
  /** Default: machines with a NitroTPM. */
  kinds: optional(list(oneOf("tpm", "enclave"), 1, 2)),
  /** PCRs (SHA-384) by number. No default. */
  pcrs: optional(
    either('PCRs by number, or "any"', record(/^(?:[0-9]|[12][0-9]|3[01])$/, list(hex(48), 1, 256), 32), any),
  ),
  /** Accepted machines and enclaves, as `module_id` names them. Default: any. */
  modules: optional(list(text("a module id", /^[\x20-\x7e]+$/, 256), 1, 256)),
  /** Accepted values of what the machine had bound. Default: any, or none. */
  publicKeys: optional(list(hex([1, 1024]), 1, 256)),
  userData: optional(list(hex([1, 1024]), 1, 256)),
});

const pcrName = /^(?:[0-9]|1[0-9]|2[0-3])$/;

const registerTuple = {
  mrtd: optional(hex(48)),
  rtmr0: optional(hex(48)),
  rtmr1: optional(hex(48)),
  rtmr2: optional(hex(48)),
};

const policySchema = object({
  version: oneOf("caisson/policy/v1"),
  /** For people; not interpreted. */
  description: optional(text("a text of at most 2000 characters", /^/, 2000)),
  /** Default: tdx alone. */
  platforms: optional(list(oneOf(...platforms), 1, platforms.length)),
  /** Uncompressed P-256 point of the root that signs for the emulated platform. No default. */
  simulatedRoot: optional(hex(65)),
  tcb: optional(
    object({
      /** Default: UpToDate alone. Revoked can never be accepted. */
      statuses: optional(list(oneOf(...tcbStatuses), 1, 16)),
      /** Advisories that a platform may still be open to. Default: none. */
      advisories: optional(
        either(
          'a list of advisories, or "any"',
          list(text("an advisory id", /^[A-Z0-9-]+$/, 64), 0, 256),
          any,
        ),
      ),
      /** Least tcbEvaluationDataNumber of TCB info and QE identity. No default. */
      minimumEvaluationNumber: optional(either('a whole number, or "any"', integer(0, 1_000_000), any)),
    }),
  ),
  /** Platform provisioning ids (16 bytes). No default. */
  platformIdentities: optional(listOrAny(hex(16))),
  /** Accepted platform instances (PIID, 16 bytes): a machine that was registered anew is another one. Default: any. */
  platformInstances: optional(list(hex(16), 1, 256)),
  /** Accepted kinds of platform, by FMSPC (6 bytes). Default: any. */
  fmspcs: optional(list(hex(6), 1, 256)),
  td: optional(
    object({
      /** Accepted TD attributes, whole. Default: SEPT_VE_DISABLE alone. The debug byte must be zero in any case. */
      attributes: optional(listOrAny(hex(8))),
      /** Accepted XFAM values. Default: any that the TDX module permits. */
      xfam: optional(list(hex(8), 1, 256)),
      /** Accepted TDX module measurements. Default: the TCB info alone judges the module. */
      mrSeam: optional(list(hex(48), 1, 256)),
      /** Accepted signers of the TDX module. Default: the TCB info alone judges the module. */
      mrSignerSeam: optional(list(hex(48), 1, 256)),
      /** Least TEE_TCB_SVN, component by component (16 bytes). Default: the TCB info alone judges it. */
      minimumTeeTcbSvn: optional(hex(16)),
      /** Defaults of these four: zero. A TD 1.0 report does not carry MRSERVICETD: `any` says that this is accepted. */
      mrServiceTd: optional(listOrAny(hex(48))),
      mrConfigId: optional(listOrAny(hex(48))),
      mrOwner: optional(listOrAny(hex(48))),
      mrOwnerConfig: optional(listOrAny(hex(48))),
    }),
  ),
  /** Registers that need not match a reference. */
  registers: optional(
    object({
      mrtd: optional(any),
      /**
       * "by-event": every event of RTMR0 must match but the SMBIOS tables, which name the host's processor; the boot log
       * is needed. "any" opens all of it, and with it the ACPI byte code that the host has the guest's kernel run:
       * `hostAcpi` says that this is meant.
       */
      rtmr0: optional(oneOf("any", "by-event")),
      rtmr1: optional(any),
      rtmr2: optional(any),
      /** Goes with `rtmr0: any`, and only with that. */
      hostAcpi: optional(any),
      /** Accepted values where there are no runtime events; without those, and only then. Default: zero. */
      rtmr3: optional(listOrAny(hex(48))),
    }),
  ),
  /** Explicit reference tuples, beside those of manifests and measurement files. */
  references: optional(
    list(
      object({
        name: optional(text("a name", /^/, 200)),
        ...registerTuple,
        rtmr0Events: optional(rtmr0EventsSchema),
      }),
      1,
      1024,
    ),
  ),
  events: optional(
    object({
      /** The exact sequence of runtime events; the last is the boundary. Default: `bootEvents`. */
      sequence: optional(list(eventName, 1, 64)),
      /** Names that may follow the boundary; names of the sequence never may. Default: none. */
      afterBoundary: optional(either('a list of names, or "any"', list(eventName, 0, 256), any)),
      /** "required": evidence without a boot log is refused. Default: optional, for references cover the registers. */
      bootLog: optional(oneOf("required", "optional")),
    }),
  ),
  /**
   * "none": the TD is not one that measures events as a Caisson guest does. RTMR3 is compared as a register, and what only
   * events could say (application, time, keys) is left open; a rule that names values for it then fails.
   */
  runtimeEvents: optional(oneOf("none")),
  /**
   * Accepts SGX enclaves, and no TD. By MRENCLAVE (32 bytes), or by signer with product and least version. The debug bit
   * must be zero in any case.
   */
  sgx: optional(
    object({
      mrEnclave: optional(list(hex(32), 1, 256)),
      mrSigner: optional(list(hex(32), 1, 256)),
      isvProdId: optional(integer(0, 0xffff)),
      minimumIsvSvn: optional(integer(0, 0xffff)),
    }),
  ),
  /** Accepts SEV-SNP guests, and no TD. */
  snp: optional(snpRules),
  /** Accepts AWS Nitro's attestation documents, and no TD: AWS itself is trusted then. */
  nitro: optional(nitroRules),
  /**
   * Accepted PCRs (SHA-256) of the virtual TPM that Azure's evidence binds; its hardware report covers the paravisor alone.
   * No default where the evidence has one. "any" accepts whatever the guest booted.
   */
  pcrs: optional(either('PCRs by number, or "any"', record(pcrName, list(hex(32), 1, 256), 24), any)),
  app: optional(
    object({
      /** Payloads of the events app-id, compose-hash and instance-id. No default. */
      id: optional(listOrAny(hex([1, 64]))),
      composeHash: optional(listOrAny(hex([1, 64]))),
      instanceId: optional(listOrAny(hex([1, 64]))),
      /**
       * The application by its identity: a release that its owners signed says which image and description it may run,
       * so that composeHash may be left out and references say RTMR0 alone. Evidence then carries the release's bundle.
       */
      identity: optional(
        object({
          /** Hash of its first identity document; the payload of app-id. */
          id: hex(32),
          /** Releases with a lower number are refused. Default: as the bundle says. */
          minimumRelease: optional(integer(1, 0xffff_ffff)),
          /** How old a quorum's view of the log may be, in seconds. Default: a day. */
          maximumAge: optional(integer(1, 315_360_000)),
          /** Default: where the identity names a log. */
          requireLog: optional(oneOf(true, false)),
          /** Rebuilders that have to agree, at least. Default: as the identity says. */
          requireRebuilds: optional(integer(0, 16)),
          /** Who has to have built it, beside its owners' signatures. Default: nobody is asked for. */
          provenance: optional(provenanceRules),
        }),
      ),
    }),
  ),
  /**
   * "none": the machine opens no volume that outlives it. Otherwise exactly these volumes, of an instance with one of these
   * seeds. Without it, the sequence of events decides whether there may be some.
   */
  volumes: optional(
    either(
      'names of volumes and seeds of instances, or "none"',
      oneOf("none"),
      object({
        names: list(text("a volume's name", /^[a-z0-9][a-z0-9_.-]{0,62}$/, 63), 1, 8),
        /** Default: any. */
        seeds: optional(list(hex(20), 1, 256)),
      }),
    ),
  ),
  /** What the secure-time event must say. */
  secureTime: optional(
    either(
      'rules, or "any"',
      any,
      object({
        /** Default: nts alone. */
        methods: optional(list(oneOf("nts", "none"), 1, 2)),
        /** Where the time sources were named. Default: image alone. */
        origins: optional(list(oneOf("image", "instance"), 1, 2)),
        /** Operators that agreed, at least. Default: 3. */
        minimumOperators: optional(integer(1, 32)),
        /** Width of their agreement, at most, in ms. Default: 250. */
        maximumWidthMs: optional(integer(0, 60_000)),
        /** Age of the agreement at the time of judging, at most, in seconds. Default: unbounded, for a TD may run on. */
        maximumAgeSeconds: optional(integer(1, 315_360_000)),
      }),
    ),
  ),
  /** Accepted payloads of the event key-provider. No default. */
  keyProviders: optional(listOrAny(object({ name: oneOf("kms", "none"), id: hex([0, 64]) }))),
  /** "nonce" (default): the report data must bind the nonce that the verifier was given. */
  freshness: optional(either('"nonce" or "any"', oneOf("nonce"), any)),
});

/** A policy as read. Hexadecimal values are in lower case. */
export type Policy = Infer<typeof policySchema>;

/** The platforms whose evidence a policy accepts. */
export const acceptedPlatforms = ({ platforms: accepted = ["tdx"] }: Policy): readonly Platform[] => accepted;

/** Kinds of evidence whose rules stand below one name, and what else their policies may say. */
const ownRules = { snp: ["pcrs"], nitro: [] } as const;

/** Rules that nothing in an enclave's quote could answer. */
const rulesOfTd = [
  "td",
  "registers",
  "references",
  "events",
  "runtimeEvents",
  "app",
  "volumes",
  "secureTime",
  "keyProviders",
] as const;

/** Rules that look as if they asked something, and do not. */
function checkSnpRules({ snp }: Policy): void {
  if (snp === undefined) return;
  const { measurements, idKeys, authorKeys, minimumTcb } = snp;
  const unsigned = (keys: readonly string[] | undefined) => keys?.includes("00".repeat(48)) === true;
  for (const [name, keys] of Object.entries({ idKeys, authorKeys })) {
    if (unsigned(keys) && !Array.isArray(measurements)) {
      throw new SchemaError(
        `snp.${name}`,
        "zero is a guest whose launch nobody signed, which any guest may be: state snp.measurements with it",
      );
    }
  }
  const ofBlock = (["familyIds", "imageIds", "minimumGuestSvn"] as const).find(
    (name) => snp[name] !== undefined,
  );
  if (ofBlock !== undefined && idKeys === undefined && authorKeys === undefined) {
    throw new SchemaError(
      `snp.${ofBlock}`,
      "the host writes the ID block: state who must have signed it, snp.idKeys or snp.authorKeys",
    );
  }
  for (const [product, least] of Object.entries(typeof minimumTcb === "object" ? minimumTcb : {})) {
    if (Object.keys(least ?? {}).length > 0) continue;
    throw new SchemaError(`snp.minimumTcb.${product}`, 'it asks for no level: name some, or state "any"');
  }
}

function checkOwnRules(policy: Policy): void {
  for (const kind of ["snp", "nitro"] as const) {
    if (policy[kind] === undefined) continue;
    const allowed = ["version", "description", "freshness", kind, ...ownRules[kind]];
    const other = Object.keys(policy).find((field) => !allowed.includes(field));
    if (other !== undefined) {
      throw new SchemaError(other, `a policy with ${kind} has no such rule: its own are below ${kind}`);
    }
  }
}

/**
 * A virtual TPM is as good as what runs it: under any firmware, anybody's guest makes a TPM of its own with any PCRs. So PCRs
 * go with a rule that says whose paravisor.
 */
function checkPcrRules({ pcrs, snp, registers }: Policy): void {
  if (pcrs === undefined || pcrs === "any") return;
  if (snp !== undefined && snp.measurements === "any" && snp.idKeys === undefined) {
    throw new SchemaError(
      "pcrs",
      "under any measurement PCRs prove nothing: state snp.measurements, or snp.idKeys",
    );
  }
  if (registers?.mrtd !== undefined) {
    throw new SchemaError("pcrs", "under any MRTD PCRs prove nothing: state the paravisor's in a reference");
  }
}

/** Reads a policy from plain data (parsed YAML or JSON). Throws VerifyError "policy/malformed" with the path. */
export function readPolicy(document: unknown): Policy {
  try {
    const policy = policySchema(document);
    const sequence = policy.events?.sequence;
    if (sequence !== undefined && new Set(sequence).size !== sequence.length) {
      throw new SchemaError("events.sequence", "every event may be named once");
    }
    if (
      !acceptedPlatforms(policy).every((name) => provesHardware[name]) &&
      policy.simulatedRoot === undefined
    ) {
      throw new SchemaError("simulatedRoot", "a policy that accepts the emulated platform names its root");
    }
    const { id, identity } = policy.app ?? {};
    if (identity !== undefined && id !== undefined && (id === "any" || id.join() !== identity.id)) {
      throw new SchemaError("app.id", "app.identity names the application already");
    }
    const { rtmr0, hostAcpi, rtmr3 } = policy.registers ?? {};
    if (rtmr3 !== undefined && policy.runtimeEvents === undefined) {
      throw new SchemaError(
        "registers.rtmr3",
        'RTMR3 is judged by its events, unless runtimeEvents is "none"',
      );
    }
    if (policy.runtimeEvents === "none" && (policy.events?.sequence ?? policy.events?.afterBoundary)) {
      throw new SchemaError(
        "events",
        'runtimeEvents: "none" leaves no events whose sequence could be judged',
      );
    }
    if (policy.runtimeEvents === "none" && policy.volumes !== undefined) {
      throw new SchemaError("volumes", 'runtimeEvents: "none" leaves nothing that could tell of volumes');
    }
    const ofTd = rulesOfTd.find((field) => policy.sgx !== undefined && policy[field] !== undefined);
    checkOwnRules(policy);
    checkSnpRules(policy);
    checkPcrRules(policy);
    if (policy.pcrs !== undefined && policy.sgx !== undefined) {
      throw new SchemaError("pcrs", "an enclave has no virtual TPM");
    }
    if (ofTd !== undefined) throw new SchemaError(ofTd, "a policy for enclaves has no rules for a TD");
    if (rtmr0 === "any" && hostAcpi === undefined) {
      throw new SchemaError(
        "registers.rtmr0",
        'an open RTMR0 lets the host run ACPI byte code of its own in the guest: "by-event" leaves open only what ' +
          'names the host\'s processor; registers.hostAcpi: "any" says that all of it is meant',
      );
    }
    if (hostAcpi !== undefined && rtmr0 !== "any") {
      throw new SchemaError("registers.hostAcpi", 'it belongs to registers.rtmr0: "any"');
    }
    return policy;
  } catch (error) {
    if (!(error instanceof SchemaError)) throw error;
    throw new VerifyError("policy/malformed", `this policy is malformed: ${error.message}`, {
      where: error.path || "the whole document",
    });
  }
}
