// SPDX-License-Identifier: Apache-2.0
/**
 * A strict reader of plain JSON values: every field is named, unknown and missing ones are refused, every list and
 * text is bounded. A schema is a function from an unknown value to a typed one; what is wrong, and where, is a
 * `SchemaError` that the caller turns into its own code.
 *
 * zod/mini would add some 6 kB to a browser bundle that is bounded (7.6 kB after gzip for a few schemas; this: 1.2 kB).
 */

/** What a value is not, and at which path ("tcb.statuses[2]"; empty: the value itself). */
export class SchemaError extends Error {
  readonly path: string;
  constructor(path: string, message: string) {
    super(message);
    this.path = path;
  }
}

export type Schema<T> = (value: unknown) => T;
export type Infer<S> = S extends Schema<infer T> ? T : never;

/**
 * Reads a part of a document, and says where the part is when it is wrong. Paths are put together on the way out of
 * an error, so that a document that is right costs none.
 */
export function readAt<T>(path: string, schema: Schema<T>, value: unknown): T {
  try {
    return schema(value);
  } catch (error) {
    throw within(path, error);
  }
}

/** An error in a part of a value, as an error in the value. */
function within(part: string, error: unknown): unknown {
  if (!(error instanceof SchemaError)) return error;
  const separator = error.path === "" || error.path.startsWith("[") ? "" : ".";
  return new SchemaError(part + separator + error.path, error.message);
}

/** A field's name as part of a path; one that is not a plain word comes from a document that is wrong, and is quoted. */
function part(key: string): string {
  return /^[\w-]{1,64}$/.test(key) ? key : JSON.stringify(key.slice(0, 60));
}

function describe(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  return typeof value === "number" || typeof value === "boolean" ? `${value}` : `an ${typeof value}`;
}

const fail = (expected: string, value: unknown): never => {
  throw new SchemaError(
    "",
    `expected ${expected}, found ${value === undefined ? "nothing" : describe(value)}`,
  );
};

/** Text that matches `pattern` (anchored by its author) and is at most `max` characters long. */
export function text(expected: string, pattern: RegExp, max: number): Schema<string> {
  return (value) =>
    typeof value === "string" && value.length <= max && pattern.test(value) ? value : fail(expected, value);
}

/** Hexadecimal text of either case, returned in lower case; `bytes` is an exact size or a [least, most] pair. */
export function hex(bytes: number | readonly [least: number, most: number]): Schema<string> {
  const [least, most] = typeof bytes === "number" ? [bytes, bytes] : bytes;
  const size = least === most ? `${least}` : `${least} to ${most}`;
  return (value) =>
    typeof value === "string" &&
    value.length % 2 === 0 &&
    value.length >= 2 * least &&
    value.length <= 2 * most &&
    /^[0-9a-fA-F]*$/.test(value)
      ? value.toLowerCase()
      : fail(`${size} bytes in hexadecimal`, value);
}

/** A whole number from `least` to `most`, both included. */
export function integer(least: number, most: number): Schema<number> {
  return (value) =>
    Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most
      ? (value as number)
      : fail(`a whole number from ${least} to ${most}`, value);
}

/** A time in the form that Intel signs: `YYYY-MM-DDThh:mm:ssZ`, a date that exists. Milliseconds since 1970. */
export const timestamp: Schema<number> = (value) => {
  if (typeof value === "string" && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(value)) {
    const ms = Date.parse(value);
    // Date.parse takes a 30th of February for a day in March, and 24:00 for the next day.
    if (new Date(ms).getUTCDate() === Number(value.slice(8, 10))) return ms;
  }
  return fail("a UTC time YYYY-MM-DDThh:mm:ssZ", value);
};

/** One of a few words or numbers. */
export function oneOf<const T extends readonly (string | number | boolean)[]>(
  ...allowed: T
): Schema<T[number]> {
  return (value) =>
    (allowed as readonly unknown[]).includes(value)
      ? (value as T[number])
      : fail(allowed.map((a) => JSON.stringify(a)).join(" or "), value);
}

/** A list of `least` to `most` items. */
export function list<T>(item: Schema<T>, least: number, most: number): Schema<T[]> {
  return (value) => {
    if (!Array.isArray(value) || value.length < least || value.length > most) {
      const found = Array.isArray(value) ? `${value.length} items` : value;
      return fail(`a list of ${least} to ${most} items`, found);
    }
    // `readAt` written out: it would be given a path made for nothing.
    return value.map((entry, i) => {
      try {
        return item(entry);
      } catch (error) {
        throw within(`[${i}]`, error);
      }
    });
  };
}

/** The first schema that takes the value. `expected` names all of them for the error. */
export function either<A, B>(expected: string, a: Schema<A>, b: Schema<B>): Schema<A | B> {
  return (value) => {
    for (const schema of [a, b]) {
      try {
        return schema(value);
      } catch (error) {
        // An error inside the value says more than "it is neither".
        if (!(error instanceof SchemaError) || error.path !== "") throw error;
      }
    }
    return fail(expected, value);
  };
}

const isOptional = Symbol("optional");
type Optional<T> = Schema<T | undefined> & { readonly [isOptional]: true };

/** A field that may be absent (but not null or undefined). */
export function optional<T>(schema: Schema<T>): Optional<T> {
  const wrapped: Schema<T | undefined> = (value) => schema(value);
  return Object.assign(wrapped, { [isOptional]: true as const });
}

/** A value that may be null, and must be there. */
export function nullable<T>(schema: Schema<T>): Schema<T | null> {
  return (value) => (value === null ? null : schema(value));
}

type Fields = Record<string, Schema<unknown>>;
type ObjectOf<F extends Fields> = {
  [K in keyof F as F[K] extends Optional<unknown> ? never : K]: Infer<F[K]>;
} & { [K in keyof F as F[K] extends Optional<unknown> ? K : never]?: Exclude<Infer<F[K]>, undefined> };

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** An object with exactly these fields; `loose` lets others pass unread (documents of others that may grow). */
export function object<F extends Fields>(
  fields: F,
  loose: "loose" | "strict" = "strict",
): Schema<ObjectOf<F>> {
  const entries = Object.entries(fields);
  return (value) => {
    if (!isPlainObject(value)) return fail("an object", value);
    if (loose === "strict") {
      for (const key of Object.keys(value)) {
        if (!Object.hasOwn(fields, key)) throw new SchemaError(part(key), "there is no such field");
      }
    }
    const result: Record<string, unknown> = {};
    for (const [key, schema] of entries) {
      if (Object.hasOwn(value, key)) result[key] = readAt(key, schema, value[key]);
      else if (!(isOptional in schema)) throw new SchemaError(key, "this field is missing");
    }
    return result as ObjectOf<F>;
  };
}

/** An object from any keys that match `key` to values, at most `most` of them. */
export function record<T>(key: RegExp, item: Schema<T>, most: number): Schema<Record<string, T>> {
  return (value) => {
    if (!isPlainObject(value) || Object.keys(value).length > most) {
      return fail(`an object of at most ${most} fields`, value);
    }
    const result: Record<string, T> = {};
    for (const [name, entry] of Object.entries(value)) {
      if (!key.test(name)) throw new SchemaError(part(name), `a field name must match ${key}`);
      result[name] = readAt(name, item, entry);
    }
    return result;
  };
}
