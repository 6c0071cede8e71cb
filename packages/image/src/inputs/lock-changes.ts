// SPDX-License-Identifier: Apache-2.0
/** What a new lock pins otherwise than the one before it, for whoever commits it. */
import type { Lock } from "./lock.ts";

export interface LockChange {
  /** The reference of an image, the name of a package. */
  name: string;
  /** Digest or version; absent where there was, or is, none. */
  before?: string;
  after?: string;
}

function changesOf(before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): LockChange[] {
  return [...new Set([...before.keys(), ...after.keys()])].sort().flatMap((name): LockChange[] => {
    const [old, now] = [before.get(name), after.get(name)];
    if (old === now) return [];
    return [{ name, ...(old !== undefined && { before: old }), ...(now !== undefined && { after: now }) }];
  });
}

const imagesOf = (lock: Lock) =>
  new Map((lock.images ?? []).map(({ reference, digest }) => [reference, digest]));

/** Several versions of a package may be there, for different parts of a build. */
const packagesOf = (lock: Lock) =>
  new Map(
    [...Map.groupBy(lock.packages, ({ name }) => name)].map(([name, all]) => [
      name,
      all.map(({ version }) => version).join(", "),
    ]),
  );

/** Images first, then packages. */
export function lockChanges(before: Lock, after: Lock): LockChange[] {
  return [
    ...changesOf(imagesOf(before), imagesOf(after)),
    ...changesOf(packagesOf(before), packagesOf(after)),
  ];
}
