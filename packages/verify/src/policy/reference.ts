// SPDX-License-Identifier: Apache-2.0
/**
 * Reference values: the registers that a relying party expects, from a Caisson manifest, from a measurement file
 * (`caisson measure --json`), or written out. Each source becomes a list of tuples with names.
 */

import { type Platform, platforms } from "@caisson/vocabulary/platforms";
import { hex, list, readAt, type Schema, SchemaError } from "@caisson/vocabulary/schema";
import { VerifyError } from "../errors.ts";

/** Registers that a reference can fix; RTMR3 is judged by its events instead. */
export const referenceRegisters = ["mrtd", "rtmr0", "rtmr1", "rtmr2"] as const;
export type ReferenceRegister = (typeof referenceRegisters)[number];

/** Those that the image alone determines; RTMR0 is the machine around it. */
export const imageRegisters = ["mrtd", "rtmr1", "rtmr2"] as const satisfies readonly ReferenceRegister[];

/** Stands for the digest of the SMBIOS tables, which name the host's processor. */
export const HOST_SMBIOS = "smbios";

/** One expected state. Registers that are left out are not covered by it. Hexadecimal, lower case. */
export interface Reference {
  /** For reports: where it comes from, such as "manifest/tdx/2-cpus". */
  name: string;
  /** Undefined: for either platform. */
  platform?: Platform;
  registers: Partial<Record<ReferenceRegister, string>>;
  /** The events that make up RTMR0, in order: digests, or `HOST_SMBIOS`. For policies that compare it by event. */
  rtmr0Events?: readonly string[];
  /** What a SEV-SNP guest is launched with, instead of registers. */
  launchDigest?: string;
}

const registerValue = hex(48);
const eventDigest: Schema<string> = (value) => (value === HOST_SMBIOS ? HOST_SMBIOS : registerValue(value));
/** A boot measures some 20 events into RTMR0. */
export const rtmr0EventsSchema = list(eventDigest, 1, 256);
const MAX_REFERENCES = 4096;
/** Levels of grouping (by platform, by machine shape…) that are followed. */
const MAX_DEPTH = 6;

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

/** Registers of an object: hexadecimal, or as a prediction has them, `{value}`, whose value may be open. */
function registersOf(value: Record<string, unknown>, path: string): Reference["registers"] {
  const registers: Reference["registers"] = {};
  for (const register of referenceRegisters) {
    const entry = value[register];
    const text = isObject(entry) ? entry.value : entry;
    if (text !== undefined && text !== null) {
      registers[register] = readAt(`${path}.${register}`, registerValue, text);
    }
  }
  return registers;
}

/** The events of RTMR0 beside registers, where they are written out. */
function eventsOf(value: Record<string, unknown>, path: string): Pick<Reference, "rtmr0Events"> {
  const { rtmr0Events: events } = value;
  if (events === undefined) return {};
  return { rtmr0Events: readAt(`${path}.rtmr0Events`, rtmr0EventsSchema, events) };
}

/**
 * The events of RTMR0 in a prediction; none where another one than the SMBIOS tables is open, or stands for several.
 */
function predictedEvents(events: unknown, path: string): Pick<Reference, "rtmr0Events"> {
  if (!Array.isArray(events)) return {};
  const predicted = events.filter(isObject).filter(({ register }) => register === "rtmr0");
  const digests = predicted.map(({ source, digest }) => (source === HOST_SMBIOS ? HOST_SMBIOS : digest));
  if (digests.length === 0 || digests.includes(undefined)) return {};
  return eventsOf({ rtmr0Events: digests }, path);
}

/**
 * The tuples of a prediction (`caisson measure --json`): a TD's MRTD depends on the order in which its host adds
 * pages, so that there is one tuple for each order.
 */
function readPrediction(
  { mrtd, registers: folded }: { mrtd?: unknown; registers: Record<string, unknown> },
  path: string,
): [suffix: string, registers: Reference["registers"]][] {
  const registers = registersOf(folded, `${path}.registers`);
  if (!isObject(mrtd)) return [["", registers]];
  return (["singlePass", "twoPass"] as const).map((order) => [
    `/${order}`,
    { ...registers, mrtd: readAt(`${path}.mrtd.${order}`, registerValue, mrtd[order]) },
  ]);
}

/**
 * Collects every register tuple of a document: a manifest's `measurements`, a prediction, or tuples themselves, in
 * lists or grouped by name. The field `platform` of a prediction, and the keys `tdx` and `emulated` of a group, say
 * for which platform they are. What is not a register (shapes, versions, events) is left unread; a register that is no
 * 48-byte value is an error.
 *
 * @param label names the document in reports
 * @throws VerifyError "reference/malformed", also when the document holds no register at all
 */
export function readReferences(document: unknown, label: string): Reference[] {
  const found: Reference[] = [];
  const add = (reference: Reference, platform: Platform | undefined): void => {
    if (found.length === MAX_REFERENCES)
      throw new SchemaError(reference.name, `more than ${MAX_REFERENCES} references`);
    found.push({ ...reference, ...(platform === undefined ? {} : { platform }) });
  };
  const visit = (value: unknown, name: string, group: Platform | undefined, depth: number): void => {
    if (!isObject(value) || depth > MAX_DEPTH) return;
    const platform = platforms.find((candidate) => candidate === value.platform) ?? group;
    if (isObject(value.registers)) {
      const prediction = { mrtd: value.mrtd, registers: value.registers };
      const events = predictedEvents(value.events, name);
      for (const [suffix, registers] of readPrediction(prediction, name)) {
        if (Object.keys(registers).length > 0) add({ name: name + suffix, registers, ...events }, platform);
      }
      return;
    }
    if (value.launchDigest !== undefined) {
      add(
        {
          name,
          registers: {},
          launchDigest: readAt(`${name}.launchDigest`, registerValue, value.launchDigest),
        },
        undefined,
      );
      return;
    }
    const registers = registersOf(value, name);
    if (Object.keys(registers).length > 0) {
      add({ name, registers, ...eventsOf(value, name) }, platform);
      return;
    }
    for (const [key, inner] of Object.entries(value)) {
      const named = platforms.find((candidate) => candidate === key);
      visit(inner, `${name}/${key}`, named ?? platform, depth + 1);
    }
  };
  try {
    const root = isObject(document) && isObject(document.measurements) ? document.measurements : document;
    visit(root, label, undefined, 0);
    if (found.length === 0) throw new SchemaError("", "it holds no register values");
  } catch (error) {
    if (!(error instanceof SchemaError)) throw error;
    throw new VerifyError("reference/malformed", `${label} gives no reference values: ${error.message}`, {
      where: error.path || "the whole document",
    });
  }
  return found;
}
