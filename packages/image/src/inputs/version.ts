// SPDX-License-Identifier: Apache-2.0
/**
 * Debian package versions: `[epoch:]upstream[-revision]` and their order (Debian Policy 5.6.12, deb-version(7)).
 */
import { ImageError } from "../errors.ts";

interface Version {
  epoch: number;
  upstream: string;
  revision: string;
}

const form = /^(?:(\d{1,9}):)?(\d[A-Za-z0-9.+~:-]*?)(?:-([A-Za-z0-9.+~]+))?$/;

/** Throws ImageError `lock/version` for what Policy does not allow. */
function parse(version: string): Version {
  const match = form.exec(version);
  const [, epoch, upstream, revision] = match ?? [];
  const stray =
    (epoch === undefined && upstream?.includes(":")) || (revision === undefined && upstream?.includes("-"));
  if (upstream === undefined || stray || version.length > 256) {
    throw new ImageError("lock/version", `'${version.slice(0, 80)}' is not a Debian package version`);
  }
  return { epoch: Number(epoch ?? 0), upstream, revision: revision ?? "0" };
}

/** `~` sorts before the end of the text, letters before everything else that is not a digit. */
function weight(character: string | undefined): number {
  if (character === undefined || (character >= "0" && character <= "9")) return 0;
  if (character === "~") return -1;
  return /[A-Za-z]/.test(character) ? character.charCodeAt(0) : character.charCodeAt(0) + 256;
}

/** Compares part by part: a run without digits by weights, then a run of digits as a number. */
function comparePart(a: string, b: string): number {
  let [i, j] = [0, 0];
  const isDigit = (text: string, at: number) => at < text.length && text[at]! >= "0" && text[at]! <= "9";
  while (i < a.length || j < b.length) {
    while ((i < a.length && !isDigit(a, i)) || (j < b.length && !isDigit(b, j))) {
      const difference = weight(a[i]) - weight(b[j]);
      if (difference !== 0) return Math.sign(difference);
      i++;
      j++;
    }
    const [startA, startB] = [i, j];
    while (isDigit(a, i)) i++;
    while (isDigit(b, j)) j++;
    const [x, y] = [BigInt(a.slice(startA, i) || "0"), BigInt(b.slice(startB, j) || "0")];
    if (x !== y) return x < y ? -1 : 1;
  }
  return 0;
}

/** Negative, zero or positive, as `a` is lower than, equal to or higher than `b`. */
export function compareVersions(a: string, b: string): number {
  if (a === b) return 0;
  const [x, y] = [parse(a), parse(b)];
  if (x.epoch !== y.epoch) return x.epoch < y.epoch ? -1 : 1;
  return comparePart(x.upstream, y.upstream) || comparePart(x.revision, y.revision);
}

export type Relation = "<<" | "<=" | "=" | ">=" | ">>";

/** Whether `version` stands in `relation` to `bound`, as in `Depends: package (>= bound)`. */
export function satisfies(version: string, relation: Relation, bound: string): boolean {
  const order = compareVersions(version, bound);
  switch (relation) {
    case "<<":
      return order < 0;
    case "<=":
      return order <= 0;
    case "=":
      return order === 0;
    case ">=":
      return order >= 0;
    case ">>":
      return order > 0;
  }
}
