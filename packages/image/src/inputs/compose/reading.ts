// SPDX-License-Identifier: Apache-2.0
/** How the keys of a service are read: what they fill in, what they may see, and readers that several keys share. */
import type { ComposedService, Note } from "./composition.ts";
import type { Configs } from "./configs.ts";
import type { Value } from "./document.ts";
import type { Fields } from "./fields.ts";
import type { PublishedPort } from "./ports.ts";

/** A service as its own lines say it; what needs the other services is checked by `file.ts`. */
export interface ReadService extends ComposedService {
  /** With their lines. */
  published: PublishedPort[];
  usedVolumes: { name: string; line: number }[];
  usedNetworks: { name: string; line: number }[];
  usedServices: { name: string; line: number; required: boolean }[];
  /** Names that others are given for a service: `links`. */
  links: { service: string; alias: string }[];
}

/** What a service needs of the file around it. */
export interface Around {
  fields: Fields;
  /** Absolute directory of the file. */
  directory: string;
  /** Whether services may have the sockets of dstack's guest agent. */
  agent: boolean;
  configs: Configs;
  secrets: ReadonlySet<string>;
  notes: Note[];
  /** Variables of an `env_file`; undefined when it cannot be read, which has been said. */
  environmentFile(
    path: string,
    raw: boolean,
    required: boolean,
    line: number,
    where: string,
  ): ReadonlyMap<string, string>;
}

/** The largest size that anything may have. */
export const maximumSize = 2 ** 40;

/** Every key that is read, with what it does. `where` is the path of the key. */
export type Handler = (service: ReadService, value: Value, around: Around, where: string) => void;

/** Fills in one field with what a reader finds. */
export const set =
  <K extends keyof ReadService>(
    key: K,
    read: (fields: Fields, value: Value, where: string) => ReadService[K] | undefined,
  ): Handler =>
  (service, value, { fields }, where) => {
    const found = read(fields, value, where);
    if (found !== undefined) service[key] = found;
  };

/** Refuses every value but those that say what is so anyway. */
export const only =
  (allowed: readonly string[], reason: string, fix = "remove it"): Handler =>
  (_, value, { fields }, where) => {
    const text = fields.text(value, where);
    if (text !== undefined && !allowed.includes(text.text)) fields.refuse(text.line, where, reason, fix);
  };

/** A limit that can be said in two places, which have to agree. */
const limit =
  (
    key: "memory" | "pids" | "cpus",
    read: (fields: Fields, value: Value, where: string) => number | undefined,
  ): Handler =>
  (service, value, { fields }, where) => {
    const found = read(fields, value, where);
    if (found === undefined) return;
    if (service[key] !== undefined && service[key] !== found) {
      fields.refuse(value.line, where, "another line gives another limit", "say it once");
    } else service[key] = found;
  };
export const memory = limit("memory", (fields, value, where) =>
  fields.size(value, where, 6 * 2 ** 20, maximumSize),
);
export const pids = limit("pids", (fields, value, where) => fields.integer(value, where, 1, 32_768));

/** Processors in thousandths; a quota of the kernel's is not less than a millisecond of a tenth of a second. */
export const cpus = limit("cpus", (fields, value, where) => {
  const text = fields.text(value, where);
  if (text === undefined) return undefined;
  const thousandths = /^\d{1,3}(\.\d{1,9})?$/.test(text.text) ? Math.round(Number(text.text) * 1000) : 0;
  if (thousandths >= 10 && thousandths <= 64_000) return thousandths;
  return fields.refuse(text.line, where, `'${text.text}' is not a number of processors from 0.01 to 64`);
});

/** Refuses `true`. */
export function onlyFalse(reason: string, fix = "remove it"): Handler {
  return (_, value, { fields }, where) => {
    if (fields.boolean(value, where) === true) fields.refuse(value.line, where, reason, fix);
  };
}
