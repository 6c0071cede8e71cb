// SPDX-License-Identifier: Apache-2.0
/** `healthcheck` of a service (Compose Specification, 05-services.md, "healthcheck"). */
import type { ComposedHealthcheck } from "./composition.ts";
import type { Value } from "./document.ts";
import type { Fields } from "./fields.ts";

/** A command that a shell of the service reads. */
const shell = (command: string): string[] => ["/bin/sh", "-c", command];

const keys = ["test", "disable", "interval", "timeout", "retries", "start_period", "start_interval"] as const;

export function readHealthcheck(fields: Fields, value: Value, where: string): ComposedHealthcheck {
  const found = fields.record(value, where, keys);
  const result: ComposedHealthcheck = { enabled: true };
  if (found.disable !== undefined && fields.boolean(found.disable, `${where}.disable`) === true) {
    return { enabled: false };
  }
  if (found.test !== undefined) {
    const test = readTest(fields, found.test, `${where}.test`);
    if (test === "none") return { enabled: false };
    if (test !== undefined) result.test = test;
  }
  const times = [
    ["interval", "intervalMs"],
    ["timeout", "timeoutMs"],
    ["start_period", "startPeriodMs"],
    ["start_interval", "startIntervalMs"],
  ] as const;
  for (const [key, name] of times) {
    const member = found[key];
    const duration = member && fields.duration(member, `${where}.${key}`);
    if (duration !== undefined) result[name] = duration;
  }
  const retries = found.retries && fields.integer(found.retries, `${where}.retries`, 1, 1000);
  if (retries !== undefined) result.retries = retries;
  return result;
}

function readTest(fields: Fields, value: Value, where: string): string[] | "none" | undefined {
  if (value.kind !== "list") {
    const text = fields.string(value, where);
    return text === undefined ? undefined : shell(text);
  }
  const [kind, ...rest] = fields.texts(value, where).map(({ text }) => text);
  if (kind === "NONE" && rest.length === 0) return "none";
  if (kind === "CMD" && rest.length > 0) return rest;
  if (kind === "CMD-SHELL" && rest.length === 1) return shell(rest[0]!);
  return fields.refuse(
    value.line,
    where,
    "a list begins with CMD and has the words of a command, or with CMD-SHELL and has one, or is NONE",
    '["CMD", "program", "argument"] or a text, which a shell reads',
  );
}
