// SPDX-License-Identifier: Apache-2.0
/**
 * A guest that exists only as the evidence it would give: registers, event log, and a quote from a test hierarchy that
 * plays Intel. Tests and benchmarks change any of it before it is signed, so that what is wrong is correctly signed.
 */
import { fold, runtimeEventDigest } from "@caisson/measure";
import { type AppDescription, applicationId, description } from "@caisson/protocol/guest-config";
import { composeHash, instanceId, keyProvider } from "@caisson/protocol/identity";
import { plainService } from "@caisson/protocol/testing/service";
import { type Hierarchy, hierarchy, type Minted, mint } from "@caisson/simulated/pki";
import { issueQuote, type TdSpec } from "@caisson/simulated/quotes";
import type { EvidenceDocument } from "@caisson/verify";
import { canonicalJson } from "@caisson/vocabulary/canonical-json";

const text = (value: string) => new TextEncoder().encode(value);
const day = 24 * 3600 * 1000;

/** An event as the guest measures it. */
export interface MachineEvent {
  name: string;
  payload: Uint8Array;
}

/** What a test may change before evidence is made. */
export interface MachineState {
  events: MachineEvent[];
  td: Partial<TdSpec>;
  platform: "tdx" | "emulated";
  collateral: Minted["collateral"] | undefined;
  /** The bundle of its release, as its host gave it. */
  release?: object;
}

/** Registers of the one image that all machines run. */
const image = {
  mrTd: "a0".repeat(48),
  rtmr0: "a1".repeat(48),
  rtmr1: "a2".repeat(48),
  rtmr2: "a3".repeat(48),
};

export class Machine {
  readonly hierarchy: Hierarchy;
  readonly app: string;
  readonly instance: string;
  readonly description: Uint8Array;
  /** The manifest of its image, as far as a release needs it. */
  readonly manifest: Uint8Array;
  #minted: Minted;

  /** `now` is the time (ms) around which everything is valid; the same arguments give the same machine. */
  constructor(
    now: number,
    application = "hello",
    seed = 0,
    {
      identity,
      secrets,
    }: { identity?: string; secrets?: AppDescription["services"][string]["secrets"] } = {},
  ) {
    // One hierarchy for all machines: they differ in what runs on them.
    this.hierarchy = hierarchy("kms", { issued: new Date(now - day), expires: new Date(now + 30 * day) });
    this.#minted = mint(this.hierarchy);
    const app = {
      name: application,
      services: secrets === undefined ? {} : { [application]: plainService({ secrets }) },
      networks: {},
      volumes: {},
      ...(identity !== undefined && { identity }),
    };
    this.description = description({ app });
    const id = applicationId({ app });
    this.app = id.toHex();
    this.instance = instanceId(id, new Uint8Array(20).fill(seed)).toHex();
    const { mrTd, rtmr1, rtmr2 } = image;
    const measurements = { emulated: { test: { mrtd: mrTd, rtmr1, rtmr2 } } };
    this.manifest = text(canonicalJson({ guest: { app }, measurements }));
  }

  /** Signs the hierarchy again after a test changed it. */
  remint(): void {
    this.#minted = mint(this.hierarchy);
  }

  /** Uncompressed root key, hex: what a policy names as `simulatedRoot`. */
  get root(): string {
    return this.hierarchy.keys.root.publicKey.toHex();
  }

  /** The state of a machine that booted in good order and asks the KMS with this identity (hex) for its keys. */
  booted(kmsIdentity: string): MachineState {
    const time = { method: "nts", midpoint: 0, operators: ["a", "b", "c"], origin: "image", width: 20 };
    return {
      events: [
        { name: "system-preparing", payload: new Uint8Array() },
        { name: "app-id", payload: Uint8Array.fromHex(this.app) },
        { name: "compose-hash", payload: composeHash(this.description) },
        { name: "instance-id", payload: Uint8Array.fromHex(this.instance) },
        { name: "secure-time", payload: text(canonicalJson(time)) },
        { name: "boot-mr-done", payload: new Uint8Array() },
        { name: "key-provider", payload: keyProvider(Uint8Array.fromHex(kmsIdentity)) },
      ],
      td: { ...image },
      platform: "emulated",
      collateral: this.#minted.collateral,
    };
  }

  /** Evidence of that state over 64 bytes of report data. */
  async evidence(state: MachineState, reportData: Uint8Array): Promise<EvidenceDocument> {
    const digests = await Promise.all(
      state.events.map(({ name, payload }) => runtimeEventDigest(name, payload)),
    );
    const rtmr3 = (await fold(digests)).toHex();
    const td = { rtmr3, ...state.td, reportData: reportData.toHex() };
    return {
      version: "caisson/evidence/v1",
      platform: state.platform,
      quote: issueQuote(this.hierarchy, this.#minted.pckChain, td).toBase64(),
      runtimeEvents: state.events.map(({ name, payload }) => ({ name, payload: payload.toHex() })),
      reportData: { scheme: "raw", fields: { data: reportData.toHex() } },
      ...(state.collateral !== undefined && { collateral: state.collateral }),
      ...(state.release !== undefined && { release: state.release }),
    };
  }

  /** A policy file that accepts this machine, with changes to its inner policy. */
  policyFile(changes: Record<string, unknown> = {}): Record<string, unknown> {
    const { td } = this.booted(this.app);
    return {
      version: "caisson/kms-policy/v1",
      app: this.app,
      keyVersion: 1,
      policy: {
        version: "caisson/policy/v1",
        platforms: ["emulated"],
        simulatedRoot: this.root,
        tcb: { minimumEvaluationNumber: "any" },
        platformIdentities: "any",
        references: [
          { name: "test image", mrtd: td.mrTd, rtmr0: td.rtmr0, rtmr1: td.rtmr1, rtmr2: td.rtmr2 },
        ],
        secureTime: {},
        ...changes,
      },
    };
  }
}
