// SPDX-License-Identifier: Apache-2.0
/**
 * A boot is a fixed list of stages. Each is a file under `stages/`, does one thing, measures what it decided, and
 * fails by throwing `StageFailure`: PID 1 then says why on the console and powers off. No stage may be skipped,
 * retried or reordered; whatever a stage leaves for later ones it puts into `Context`.
 */
import type { CertificateReport } from "@caisson/protocol/certificate-report";
import type { GuestConfig } from "@caisson/protocol/guest-config";
import type { Instance } from "@caisson/protocol/instance";
import type { RuntimeEvent } from "@caisson/vocabulary/events";
import type { Attest } from "./evidence.ts";
import type { Post, ReleasedSecrets, ReleasedVolume } from "./key-client.ts";
import type { KeyFiles } from "./key-files.ts";
import type { PlatformAdapter } from "./platform.ts";
import type { Syscalls } from "./syscalls.ts";
import type { VolumeDisk } from "./volumes/disks.ts";
import type { Keeper } from "./volumes/keeper.ts";

/** Why the boot stops. `reason` is stable (`stage/what`); `message` says what was found and what was expected. */
export class StageFailure extends Error {
  readonly reason: string;
  constructor(reason: string, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** What stages share. Fields marked "set by" are undefined before that stage ran. */
export interface Context {
  /** The measured configuration: `/etc/caisson/guest.json` of the verity root. */
  readonly config: GuestConfig;
  /** Registers, evidence and event log of this machine. */
  readonly platform: PlatformAdapter;
  readonly syscalls: Syscalls;
  /** Fresh evidence over report data of a scheme. */
  readonly attest: Attest;
  /** What was measured into RTMR3, in order. */
  readonly events: () => readonly RuntimeEvent[];
  /** One line for the console; the host reads it, so it never carries a secret. */
  readonly log: (line: string) => void;
  /** Tells the console what became of the front's public certificate. */
  readonly certificate: (report: CertificateReport) => void;
  /** Measures one runtime event: extends RTMR3, then appends to the log on disk, then returns. */
  readonly measure: (name: string, payload: Uint8Array) => Promise<void>;
  /** Keys in files: the clock's alarm empties them. */
  readonly keyFiles: KeyFiles;
  /** What the host asked for, not trusted beyond what is measured. Set by `identity`. */
  instance?: Instance;
  /** Payloads of the events app-id and instance-id. Set by `identity`. */
  appId?: Uint8Array;
  instanceId?: Uint8Array;
  /** The application's key material. Set by `keys`; undefined when the configuration names no KMS. */
  keys?: ApplicationKeys;
  /** The disks of persistent volumes, and what the KMS released for them. Set by `keys`. */
  disks?: readonly VolumeDisk[];
  released?: { volumes: readonly ReleasedVolume[]; kms: { post: Post; identity: Uint8Array } };
  /** Anchors what services write to persistent volumes. Set by `volumes`, where there are some. */
  keeper?: Keeper;
  /** The owners' secrets, by name, and the document that they come from. Set by `keys`, written by `secrets`. */
  secrets?: ReleasedSecrets;
  /** True while the clock and its sources disagree: keys are not handed out. Set by `time`. */
  clockAlarm?: boolean;
}

/** Root key material of this application; what it asks for is derived from it. */
export interface ApplicationKeys {
  /** 32 bytes. */
  readonly root: Uint8Array;
  /** Hex Ed25519 public key of the KMS that released it. */
  readonly kms: string;
}

export interface Stage {
  readonly name: string;
  /** When it is given up; longer than all that it waits for by itself. */
  readonly limitMs: number;
  /** Returns a short note for the console ("4 sources of 4 operators agree within 12 ms"), or nothing. */
  run(context: Context): Promise<string | undefined>;
}
