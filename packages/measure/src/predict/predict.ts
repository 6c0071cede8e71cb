// SPDX-License-Identifier: Apache-2.0
/**
 * From files and machine shape to the registers of a boot: the list of events that firmware and kernel will measure,
 * each with its digest and the input that determines it, and the registers that they fold to.
 *
 * Invariants: an event whose digest the inputs do not determine stays in the list without one and says why, and its
 * register has no value: nothing is guessed. Digests are lower-case hexadecimal, so that a prediction is JSON as it is.
 */

import { fromHex, toHex } from "@caisson/vocabulary/bytes";
import type { Platform } from "@caisson/vocabulary/platforms";
import { groupBy } from "../bytes.ts";
import { MeasureError } from "../errors.ts";
import { parseTdxMetadata } from "../formats/tdvf.ts";
import { parseUki } from "../formats/uki.ts";
import { fold } from "../logs/rtmr.ts";
import { mrtdBothOrders } from "./mrtd.ts";
import type {
  MachineShape,
  PredictedEvent,
  PredictedRegister,
  PredictInput,
  Prediction,
} from "./prediction.ts";
import { type FirmwareProfile, firmwareProfile, platformRows, qemuProfile, type Step } from "./profiles.ts";
import { type Context, measure } from "./steps.ts";

/** Predicts a boot. Throws MeasureError with the code of the input that is malformed or unsupported. */
export async function predict(input: PredictInput): Promise<Prediction> {
  const [prediction] = await predictEach(input, [input]);
  return prediction!;
}

/**
 * Predicts one image on many machines: what depends on files alone is hashed once. Throws as `predict` does.
 */
export async function predictEach(
  input: PredictInput,
  machines: readonly MachineShape[],
): Promise<Prediction[]> {
  const profile = firmwareProfile(input.firmwareRelease);
  const qemu = qemuProfile(input.qemu);
  const path = `${input.platform}-${input.boot.method}` as const;
  const steps = profile.steps[path];
  if (steps === undefined) {
    throw new MeasureError(
      "prediction/profile",
      `${profile.name} has no ${input.boot.method} boot on ${input.platform}`,
      { kind: "unsupported" },
    );
  }
  const row = platformRows[input.platform];
  const tdx = row.tdxMetadata ? parseTdxMetadata(input.firmware) : undefined;
  const uki = input.boot.method === "uki" ? parseUki(input.boot.image) : undefined;
  const keepsHeader = keepsKernelHeader(input.platform, profile, qemu);
  const orders = tdx && (await mrtdBothOrders(input.firmware, tdx.sections));
  const evidence = profile.evidence[path];

  const shared = new Map<Step, PredictedEvent[]>();
  const predictions: Prediction[] = [];
  const { acpi: _, smbios: __, ...files } = input;
  for (const machine of machines) {
    const context: Context = { input: { ...files, ...machine }, profile, tdx, uki, keepsHeader };
    const events: PredictedEvent[] = [];
    for (const step of steps) {
      const measured = shared.get(step) ?? (await measure[step](context));
      if (!dependsOnMachine(step, keepsHeader)) shared.set(step, measured);
      events.push(...measured);
    }
    predictions.push({
      platform: input.platform,
      profile: { firmware: profile.name, qemu: input.qemu, ...(evidence !== undefined && { evidence }) },
      ...(orders !== undefined && {
        mrtd: { singlePass: toHex(orders.singlePass), twoPass: toHex(orders.twoPass) },
      }),
      registers: await foldBy(events, (event) => event.register),
      ...(row.pcrs && { pcrs: await foldBy(events, (event) => String(event.pcr)) }),
      events,
    });
  }
  return predictions;
}

const dependsOnMachine = (step: Step, keepsHeader: boolean): boolean =>
  step === "td-hob" || step === "acpi" || step === "smbios" || (step === "kernel" && !keepsHeader);

/** Folds the digests of each group; a group with an open event gets no value. */
async function foldBy<Key extends string>(
  events: readonly PredictedEvent[],
  key: (event: PredictedEvent) => Key,
): Promise<Record<Key, PredictedRegister>> {
  const groups = groupBy(events, key);
  const registers = {} as Record<Key, PredictedRegister>;
  for (const [name, group] of groups) {
    const open = group.filter(({ digest }) => digest === undefined).map(({ what }) => what);
    const digests = group.map(({ digest }) => fromHex(digest ?? "")!);
    registers[name] = { ...(open.length === 0 && { value: toHex(await fold(digests)) }), open };
  }
  return registers;
}

/** Whether the firmware measures the kernel as in the file, or with QEMU's setup header fields written in. */
function keepsKernelHeader(
  platform: Platform,
  profile: FirmwareProfile,
  qemu: ReturnType<typeof qemuProfile>,
): boolean {
  return (
    (profile.namedBlobs && qemu.namedBlobs) ||
    (platformRows[platform].confidential && qemu.keepsConfidentialHeader)
  );
}
