// SPDX-License-Identifier: Apache-2.0
/**
 * Why a boot's registers are not the predicted ones: the first event that differs, what it measures, both digests, and
 * the likely cause, which is tried rather than guessed wherever the inputs allow it (other memory size, other kernel
 * form, other generation).
 */

import { toHex } from "@caisson/vocabulary/bytes";
import { sha384 } from "#sha";
import { groupBy } from "../bytes.ts";
import { MeasureError } from "../errors.ts";
import { authenticode } from "../formats/authenticode.ts";
import { patchSetupHeader } from "../formats/kernel.ts";
import { tdHob } from "../formats/td-hob.ts";
import { parseTdxMetadata } from "../formats/tdvf.ts";
import type { MeasuredEvent } from "../logs/event-log.ts";
import * as ev from "../logs/event-types.ts";
import type { RegisterName } from "../logs/rtmr.ts";
import { predict } from "./predict.ts";
import type { PredictedEvent, PredictInput, Prediction } from "./prediction.ts";
import { firmwareProfiles } from "./profiles.ts";

/** The first event of a log that is not the predicted one. Digests are hexadecimal. */
export interface Difference {
  register: RegisterName;
  /** Position among the register's events, from 0. */
  position: number;
  /** What was predicted there; undefined: nothing more was. */
  expected: PredictedEvent | undefined;
  /** What the log has there; undefined: the log ends before. */
  found: { type: number; digest: string } | undefined;
  cause: string;
}

/** How a log compares with a prediction. */
export interface Comparison {
  /** No event contradicts the prediction. `notVerified` may still hold something. */
  agrees: boolean;
  first?: Difference;
  /** Events that the prediction left open, with the digest that the log claims: taken from the log, not verified. */
  notVerified: readonly { register: RegisterName; what: string; digest: string }[];
}

/**
 * Compares a boot's events (in log order) with a prediction, register by register. Registers without a prediction
 * (RTMR3) are left out. With the prediction's `input` causes are searched by trying other machines and generations.
 */
export async function explainLog(
  prediction: Prediction,
  events: readonly MeasuredEvent[],
  input?: PredictInput,
): Promise<Comparison> {
  const registers = new Map<RegisterName, Expectation>();
  for (const [register, list] of groupBy(prediction.events, (event) => event.register)) {
    registers.set(register, expectation(list));
  }
  const notVerified = [];
  for (const { register, type, digest: bytes } of events) {
    const next = registers.get(register);
    if (next === undefined) continue;
    const { wanted, position } = next(type);
    const found = { type, digest: toHex(bytes) };
    if (wanted?.type === type && wanted.digest === undefined) {
      notVerified.push({ register, what: wanted.what, digest: found.digest });
    } else if (wanted?.type !== type || wanted.digest !== found.digest) {
      const cause = await findCause(wanted, found, events, input);
      return { agrees: false, first: { register, position, expected: wanted, found, cause }, notVerified };
    }
  }
  for (const [register, next] of registers) {
    const { wanted: expected, position } = next(undefined);
    if (expected === undefined) continue;
    const cause = await findCause(expected, undefined, events, input);
    return { agrees: false, first: { register, position, expected, found: undefined, cause }, notVerified };
  }
  return { agrees: true, notVerified };
}

/** What is predicted for a register's next event, which has this type (undefined: the log has ended). */
type Expectation = (type: number | undefined) => { wanted: PredictedEvent | undefined; position: number };

/** Walks one register's predicted events along a log. */
function expectation(list: readonly PredictedEvent[]): Expectation {
  let at = 0;
  let position = 0;
  let repeating = false;
  return (type) => {
    if (repeating && list[at]?.type !== type) at++;
    const wanted = list[at];
    repeating = wanted?.several === true && wanted.type === type;
    if (!repeating) at++;
    return { wanted, position: position++ };
  };
}

type Found = { type: number; digest: string } | undefined;

async function findCause(
  wanted: PredictedEvent | undefined,
  found: Found,
  events: readonly MeasuredEvent[],
  input: PredictInput | undefined,
): Promise<string> {
  const generation = input && (await otherGeneration(events, input));
  if (wanted === undefined || found === undefined || wanted.type !== found.type) {
    if (generation !== undefined)
      return `other firmware generation: the events are in the order of ${generation}`;
    if (found === undefined) return "the log ends early: the boot stopped, or the log was cut";
    return "other boot path: the firmware or the boot loader measured something else here";
  }
  if (wanted.what === "TD HOB") return hobCause(found.digest, input);
  if (wanted.source === "kernel") return kernelCause(found.digest, input);
  if (wanted.what === "kernel command line") {
    if (generation !== undefined)
      return `other firmware generation: ${generation} places initrd=initrd like this`;
    return (await initrdCause(found.digest, input)) ?? "changed command line";
  }
  if (generation !== undefined) return `other firmware generation: the events are those of ${generation}`;
  if (wanted.source === "initrd") return "other initrd";
  if (wanted.source === "uki") return "other UKI";
  if (wanted.source === "disk") return "other partition table: the disk was resized or rewritten";
  if (wanted.source === "acpi") {
    return "other machine: vCPU count, devices or their order, memory size, or another QEMU version";
  }
  if (wanted.source === "smbios") {
    return "other machine: processor, memory size, or another QEMU version; or another firmware";
  }
  if (wanted.what.startsWith("variable ") && wanted.type === ev.EV_EFI_VARIABLE_DRIVER_CONFIG) {
    return "other Secure Boot state: keys are enrolled or Secure Boot is on where it was not, or the reverse";
  }
  if (wanted.source === "firmware") return "other firmware";
  return "other machine configuration";
}

/** The generations (joined by "or") whose prediction fits the whole log. */
async function otherGeneration(
  events: readonly MeasuredEvent[],
  input: PredictInput,
): Promise<string | undefined> {
  const current = await predict(input);
  const fitting: string[] = [];
  for (const { name, since } of firmwareProfiles) {
    if (name === current.profile.firmware) continue;
    const candidate = await attempt(() => predict({ ...input, firmwareRelease: String(since) }));
    if (candidate !== undefined && fits(candidate, events)) fitting.push(name);
  }
  return fitting.length === 0 ? undefined : fitting.join(" or ");
}

/** Same types in every register, and every known digest alike. */
function fits(prediction: Prediction, events: readonly MeasuredEvent[]): boolean {
  const predicted = groupBy(prediction.events, ({ register }) => register);
  const found = groupBy(events, ({ register }) => register);
  return [...predicted].every(([register, list]) => {
    const next = expectation(list);
    return (
      (found.get(register) ?? []).every(({ type, digest }) => {
        const { wanted } = next(type);
        return wanted?.type === type && (wanted.digest === undefined || wanted.digest === toHex(digest));
      }) && next(undefined).wanted === undefined
    );
  });
}

/** The answer of an attempt with other inputs; undefined where these inputs cannot be. */
async function attempt<T>(work: () => T | Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof MeasureError) return undefined;
    throw error;
  }
}

const MIB = 2 ** 20;

/** Memory sizes are tried in steps of 256 MiB up to 1 TiB: 4096 small hashes. */
async function hobCause(digest: string, input: PredictInput | undefined): Promise<string> {
  if (input !== undefined) {
    const { sections } = parseTdxMetadata(input.firmware);
    for (const style of ["qemu", "gce"] as const) {
      for (let memory = 256 * MIB; memory <= 2 ** 40; memory += 256 * MIB) {
        const hob = await attempt(() => sha384(tdHob(sections, memory, style)));
        if (hob === undefined || toHex(hob) !== digest) continue;
        const whose =
          style === (input.hob ?? "qemu") ? "" : ` and the HOB is ${style === "gce" ? "GCE" : "QEMU"}'s`;
        return `other memory size: the guest has ${memory / MIB} MiB, predicted were ${input.memory / MIB}${whose}`;
      }
    }
  }
  return "other memory size, or a firmware with other memory sections";
}

async function kernelCause(digest: string, input: PredictInput | undefined): Promise<string> {
  if (input?.boot.method === "direct") {
    const { kernel, initrd } = input.boot;
    if (toHex(await authenticode(kernel)) === digest) {
      return "same kernel, but untouched: a QEMU that leaves the setup header alone";
    }
    const patched = async (memory: number, size: number | undefined) => {
      const hash = await attempt(() => authenticode(patchSetupHeader(kernel, memory, size)));
      return hash !== undefined && toHex(hash) === digest;
    };
    if (await patched(input.memory, initrd?.length)) {
      return "same kernel, but with QEMU's setup header: an older QEMU or firmware";
    }
    if (initrd !== undefined) {
      if (await patched(input.memory, undefined)) {
        return "same kernel, but its header was written for a guest without initrd";
      }
      for (let memory = 256 * MIB; memory <= 3072 * MIB; memory += 256 * MIB) {
        if (await patched(memory, initrd.length)) {
          return `same kernel, but its header was written for a guest with ${memory / MIB} MiB`;
        }
      }
    }
  }
  return "other kernel";
}

async function initrdCause(digest: string, input: PredictInput | undefined): Promise<string | undefined> {
  if (input?.boot.method !== "direct") return undefined;
  const { initrd: _, ...withoutInitrd } = input.boot;
  const withInitrd = { ...input.boot, initrd: Uint8Array.of(0) };
  for (const [boot, cause] of [
    [withoutInitrd, "no initrd was given to the guest"],
    [withInitrd, "an initrd was given to the guest"],
  ] as const) {
    const { events } = await predict({ ...input, boot });
    if (events.some((event) => event.what === "kernel command line" && event.digest === digest)) return cause;
  }
  return undefined;
}
