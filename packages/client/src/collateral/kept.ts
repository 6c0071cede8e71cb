// SPDX-License-Identifier: Apache-2.0
/**
 * Parts of collateral that are kept: what never changes for good, the rest until a third of its validity is left. What is
 * older than what is kept never takes its place, and what is kept still serves until it expires where nobody answers.
 */
import { CollateralError } from "./errors.ts";

/** A place for texts by name (`tcb/tdx/b0c06f000000/standard`): [a-z0-9/-]. */
export interface CollateralStore {
  read(name: string): Promise<string | undefined>;
  write(name: string, text: string): Promise<void>;
}

/** One part. Times in milliseconds since 1970; a part without dates never changes. */
export interface Part<T> {
  value: T;
  /** Where it came from. */
  url: string;
  dates?: { issued: number; expires: number };
  /** Of two parts the one with the higher number is the newer one, whatever the dates. */
  number?: number;
}

/** How a part was come by. */
export interface Provenance {
  name: string;
  url: string;
  from: "source" | "cache";
  dates?: { issued: number; expires: number };
  number?: number;
  /** Why an older copy serves, where the source was asked in vain. */
  because?: string;
}

export interface Keeping {
  store?: CollateralStore;
  /** Nothing is asked for: what is kept, or nothing. */
  offline?: boolean;
  now: Date;
}

/** A part that was found, and what to keep once all of it has been verified. */
export interface Found<T> {
  value: T;
  provenance: Provenance;
  keep: () => Promise<void>;
}

const inFlight = new Map<string, Promise<unknown>>();

/** One request for those who want the same at the same time. */
async function once<T>(url: string, fetchIt: () => Promise<T>): Promise<T> {
  const running = inFlight.get(url) as Promise<T> | undefined;
  if (running !== undefined) return running;
  const started = fetchIt().finally(() => inFlight.delete(url));
  inFlight.set(url, started);
  return started;
}

/** From the store where it is fresh, else from its source; `fresh`: the source is asked in any case. */
export async function find<T>(
  name: string,
  url: string,
  fetchPart: () => Promise<Part<T>>,
  { store, offline, now }: Keeping,
  fresh = false,
): Promise<Found<T>> {
  const kept = await readKept<T>(store, name);
  const usable = kept !== undefined && (kept.dates === undefined || kept.dates.expires > now.getTime());
  if (usable && (offline === true || (!fresh && !isDue(kept, now)))) return foundIn("cache", name, kept);
  if (offline === true) {
    const what = kept === undefined ? "nothing is kept" : "what is kept has expired";
    throw new CollateralError("collateral/offline", "unavailable", `no ${name} without asking: ${what}`, {
      fix: "ask once without --offline",
    });
  }
  let part: Part<T>;
  try {
    part = await once(`${name} ${url}`, fetchPart);
  } catch (error) {
    if (!usable || !(error instanceof CollateralError)) throw error;
    return foundIn("cache", name, kept, error.message);
  }
  if (usable && isOlder(part, kept)) return foundIn("cache", name, kept, `${url} serves an older one`);
  return {
    value: part.value,
    provenance: provenance("source", name, part),
    keep: async () => store?.write(name, JSON.stringify(part)),
  };
}

/** Whether two thirds of the validity are over. */
export const isDue = ({ dates }: Pick<Part<unknown>, "dates">, now: Date): boolean =>
  dates !== undefined && dates.expires - now.getTime() < (dates.expires - dates.issued) / 3;

const isOlder = (part: Part<unknown>, kept: Part<unknown>): boolean =>
  (part.number ?? 0) < (kept.number ?? 0) ||
  (part.number === kept.number && (part.dates?.issued ?? 0) < (kept.dates?.issued ?? 0));

const provenance = (from: Provenance["from"], name: string, part: Part<unknown>): Provenance => ({
  name,
  from,
  url: part.url,
  ...(part.dates && { dates: part.dates }),
  ...(part.number !== undefined && { number: part.number }),
});

function foundIn<T>(from: "cache", name: string, part: Part<T>, because?: string): Found<T> {
  return {
    value: part.value,
    provenance: { ...provenance(from, name, part), ...(because !== undefined && { because }) },
    keep: async () => {},
  };
}

/** What is kept and cannot be read counts as nothing: it can be asked for again. */
async function readKept<T>(store: CollateralStore | undefined, name: string): Promise<Part<T> | undefined> {
  const text = await store?.read(name);
  if (text === undefined) return undefined;
  try {
    const part = JSON.parse(text) as Partial<Part<T>> | null;
    const { issued, expires } = part?.dates ?? { issued: 0, expires: 0 };
    const whole = typeof part?.url === "string" && part.value !== undefined;
    return whole && Number.isFinite(issued) && Number.isFinite(expires) ? (part as Part<T>) : undefined;
  } catch {
    return undefined;
  }
}
