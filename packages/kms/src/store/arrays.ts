// SPDX-License-Identifier: Apache-2.0
/**
 * Columns of many rows as parameters of one statement: an array each, in PostgreSQL's binary form, which is big-endian:
 * dimensions, whether there are nulls, type, then of the one dimension how many elements and the index of the first, then
 * each element after its length (u32 all; `array_send` in src/backend/utils/adt/arrayfuncs.c). As text, which is what the
 * client makes of arrays by itself, every byte is escaped and written as two digits, and read again.
 */

/** Numbers of types (src/include/catalog/pg_type.dat). */
const types = { bytea: 17, bigint: 20, integer: 23, text: 25 } as const;

/** What the columns of rows are, in their order. */
export type Columns<T> = { readonly [K in keyof T]: keyof typeof types };

/** What stands for rows with these columns in a statement whose first of these parameters is `$first`. */
export const unnest = <T>(columns: Columns<T>, first = 1): string =>
  `unnest(${Object.values<string>(columns)
    .map((type, i) => `$${first + i}::${type}[]`)
    .join(", ")})`;

/** The parameters that `unnest` names. */
export const parameters = <T>(columns: Columns<T>, rows: readonly T[]): Buffer[] =>
  (Object.keys(columns) as (keyof T)[]).map((name) => {
    const values = rows.map((row) => row[name] as number | string | Uint8Array);
    return arrayOf(columns[name], values);
  });

const headSize = 20;
const integerSizes = { bigint: 8, integer: 4 } as const;

/** Numbers are safe integers, of 32 bits where the column is. */
export function arrayOf(type: keyof typeof types, values: readonly (number | string | Uint8Array)[]): Buffer {
  const sizes = values.map((value) =>
    typeof value === "number"
      ? integerSizes[type as keyof typeof integerSizes]
      : typeof value === "string"
        ? Buffer.byteLength(value)
        : value.length,
  );
  const array = Buffer.allocUnsafe(sizes.reduce((sum, size) => sum + 4 + size, headSize));
  let at = array.writeUInt32BE(1);
  at = array.writeUInt32BE(0, at);
  at = array.writeUInt32BE(types[type], at);
  at = array.writeUInt32BE(values.length, at);
  at = array.writeUInt32BE(1, at);
  values.forEach((value, i) => {
    at = array.writeUInt32BE(sizes[i]!, at);
    if (typeof value === "string") array.write(value, at);
    else if (typeof value === "number") {
      if (type === "bigint") array.writeInt32BE(Math.floor(value / 2 ** 32), at);
      array.writeUInt32BE(value >>> 0, at + sizes[i]! - 4);
    } else array.set(value, at);
    at += sizes[i]!;
  });
  return array;
}
