/**
 * A strict reader of plain JSON values: every field is named, unknown and missing ones are refused, every list and
 * text is bounded. A schema is a function from an unknown value to a typed one; what is wrong, and where, is a
 * `SchemaError` that the caller turns into its own code.
 *
 * zod/mini would add some 6 kB to a browser bundle that is bounded (7.6 kB after gzip for a few schemas; this: 1.2 kB).
 */

/** What a value is not, and at which path ("tcb.statuses[2]"). */
export class SchemaError extends Error {
  readonly path: string;
  constructor(path: string, message: string) {
    super(message);
    this.path = path;
  }
}

export type Schema<T> = (value: unknown, path: string) => T;
export type Infer<S> = S extends Schema<infer T> ? T : never;

function describe(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  return typeof value === "number" || typeof value === "boolean" ? `${value}` : `an ${typeof value}`;
}

const fail = (path: string, expected: string, value: unknown): never => {
  throw new SchemaError(
    path,
    `expected ${expected}, found ${value === undefined ? "nothing" : describe(value)}`,
  );
};

/** Text that matches `pattern` (anchored by its author) and is at most `max` characters long. */
export function text(expected: string, pattern: RegExp, max: number): Schema<string> {
  return (value, path) =>
    typeof value === "string" && value.length <= max && pattern.test(value)
      ? value
      : fail(path, expected, value);
}

/** Hexadecimal text of either case, returned in lower case; `bytes` is an exact size or a [least, most] pair. */
export function hex(bytes: number | readonly [least: number, most: number]): Schema<string> {
  const [least, most] = typeof bytes === "number" ? [bytes, bytes] : bytes;
  const size = least === most ? `${least}` : `${least} to ${most}`;
  return (value, path) =>
    typeof value === "string" &&
    value.length % 2 === 0 &&
    value.length >= 2 * least &&
    value.length <= 2 * most &&
    /^[0-9a-fA-F]*$/.test(value)
      ? value.toLowerCase()
      : fail(path, `${size} bytes in hexadecimal`, value);
}

/** A whole number from `least` to `most`, both included. */
export function integer(least: number, most: number): Schema<number> {
  return (value, path) =>
    Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most
      ? (value as number)
      : fail(path, `a whole number from ${least} to ${most}`, value);
}

/** A time in the form that Intel signs: `YYYY-MM-DDThh:mm:ssZ`, a date that exists. Milliseconds since 1970. */
export const timestamp: Schema<number> = (value, path) => {
  if (typeof value === "string" && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(value)) {
    const ms = Date.parse(value);
    // Date.parse takes a 30th of February for a day in March, and 24:00 for the next day.
    if (new Date(ms).getUTCDate() === Number(value.slice(8, 10))) return ms;
  }
  return fail(path, "a UTC time YYYY-MM-DDThh:mm:ssZ", value);
};

/** One of a few words or numbers. */
export function oneOf<const T extends readonly (string | number | boolean)[]>(
  ...allowed: T
): Schema<T[number]> {
  return (value, path) =>
    (allowed as readonly unknown[]).includes(value)
      ? (value as T[number])
      : fail(path, allowed.map((a) => JSON.stringify(a)).join(" or "), value);
}

/** A list of `least` to `most` items. */
export function list<T>(item: Schema<T>, most: number, least = 0): Schema<T[]> {
  return (value, path) => {
    if (!Array.isArray(value) || value.length < least || value.length > most) {
      const found = Array.isArray(value) ? `${value.length} items` : value;
      return fail(path, `a list of ${least} to ${most} items`, found);
    }
    return value.map((entry, i) => item(entry, `${path}[${i}]`));
  };
}

/** The first schema that takes the value. `expected` names all of them for the error. */
export function either<A, B>(expected: string, a: Schema<A>, b: Schema<B>): Schema<A | B> {
  return (value, path) => {
    for (const schema of [a, b]) {
      try {
        return schema(value, path);
      } catch (error) {
        // An error inside the value says more than "it is neither".
        if (!(error instanceof SchemaError)) throw error;
        if (error.path !== path) throw error;
      }
    }
    return fail(path, expected, value);
  };
}

const isOptional = Symbol("optional");
type Optional<T> = Schema<T | undefined> & { readonly [isOptional]: true };

/** A field that may be absent (but not null or undefined). */
export function optional<T>(schema: Schema<T>): Optional<T> {
  const wrapped: Schema<T | undefined> = (value, path) => schema(value, path);
  return Object.assign(wrapped, { [isOptional]: true as const });
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
  return (value, path) => {
    if (!isPlainObject(value)) return fail(path, "an object", value);
    const at = (key: string) => (path === "" ? key : `${path}.${key}`);
    if (loose === "strict") {
      for (const key of Object.keys(value)) {
        if (!Object.hasOwn(fields, key)) throw new SchemaError(at(key), "there is no such field");
      }
    }
    const result: Record<string, unknown> = {};
    for (const [key, schema] of entries) {
      if (Object.hasOwn(value, key)) result[key] = schema(value[key], at(key));
      else if (!(isOptional in schema)) throw new SchemaError(at(key), "this field is missing");
    }
    return result as ObjectOf<F>;
  };
}

/** An object from any keys that match `key` to values, at most `most` of them. */
export function record<T>(key: RegExp, item: Schema<T>, most: number): Schema<Record<string, T>> {
  return (value, path) => {
    if (!isPlainObject(value) || Object.keys(value).length > most) {
      return fail(path, `an object of at most ${most} fields`, value);
    }
    const result: Record<string, T> = {};
    for (const [name, entry] of Object.entries(value)) {
      if (!key.test(name)) throw new SchemaError(`${path}.${name}`, `a field name must match ${key}`);
      result[name] = item(entry, `${path}.${name}`);
    }
    return result;
  };
}
