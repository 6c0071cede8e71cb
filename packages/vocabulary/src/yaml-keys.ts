// SPDX-License-Identifier: Apache-2.0
/**
 * YAML that has one reading, as `json.ts` has it for JSON. The package `yaml` compares each key with all before it, which
 * takes minutes for a map of a mebibyte; here each is looked up once. It is not imported: its nodes are known by shape.
 */

interface Scalar {
  readonly value: unknown;
}
interface Pair {
  readonly key: unknown;
  readonly value: unknown;
}

const isObject = (node: unknown): node is object => typeof node === "object" && node !== null;

/** What a key is called once its map is an object: `1`, `1.0` and `"1"` are one member there. */
function nameOf(key: unknown): string {
  const value = isObject(key) && "value" in key ? (key as Scalar).value : key;
  // A list or map has its text, as in an object.
  return String((value ?? "") as string | number | boolean);
}

/**
 * The first key in `node` (of a document's `contents`) whose map has it already; `offset` is where it begins in the text.
 * Throws RangeError for what is nested deeper than calls can be.
 */
export function repeatedKey(node: unknown): { name: string; offset: number } | undefined {
  if (!isObject(node) || !("items" in node)) return undefined;
  const names = new Set<string>();
  for (const item of node.items as (Pair | object)[]) {
    const pair = "key" in item ? item : undefined;
    if (pair !== undefined) {
      const name = nameOf(pair.key);
      if (names.has(name))
        return { name, offset: (pair.key as { range?: number[] } | null)?.range?.[0] ?? 0 };
      names.add(name);
    }
    const inside = repeatedKey(pair === undefined ? item : pair.value);
    if (inside !== undefined) return inside;
  }
  return undefined;
}
