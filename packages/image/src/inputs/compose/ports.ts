// SPDX-License-Identifier: Apache-2.0
/** `ports`, both forms (Compose Specification, 05-services.md, "ports"). */
import type { Service } from "@caisson/protocol/guest-config";
import type { Note } from "./composition.ts";
import type { Value } from "./document.ts";
import type { Fields } from "./fields.ts";

type Port = Service["ports"][number];
type Protocol = Port["protocol"];

const portLimit = 64;

/** A port that is published, and the line that says so. */
export interface PublishedPort extends Port {
  line: number;
}

/** "8080" or "8080-8090"; undefined when it is neither, or not in order. */
function range(text: string): [first: number, last: number] | undefined {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text);
  if (match === null) return undefined;
  const [first, last] = [Number(match[1]), Number(match[2] ?? match[1])];
  return first >= 1 && last <= 65_535 && first <= last ? [first, last] : undefined;
}

interface Mapping {
  address: string;
  /** Undefined: whatever is free, on other machines; here, the same as the target. */
  published: string | undefined;
  target: string;
  protocol: string;
}

/** `[[IP:]HOST:]CONTAINER[/PROTOCOL]`; an IPv6 address is in brackets. */
function shortForm(text: string): Mapping | undefined {
  const match = /^(?:(?:(\[[0-9a-f:]+\]|[0-9.]+):)?([0-9-]*):)?([0-9-]+)(?:\/(\w+))?$/i.exec(text);
  if (match === null) return undefined;
  const [, address = "", published, target = "", protocol = "tcp"] = match;
  return { address, published: published === "" ? undefined : published, target, protocol };
}

/** What a service publishes. What is wrong is said; what means less here goes to `notes`. */
export function readPorts(fields: Fields, value: Value, where: string, notes: Note[]): PublishedPort[] {
  const found: PublishedPort[] = [];
  for (const item of fields.items(value, where)) {
    const mapping = item.kind === "map" ? longForm(fields, item, where) : readShort(fields, item, where);
    if (mapping !== undefined) found.push(...expand(fields, item.line, where, mapping, notes));
  }
  if (found.length > portLimit) {
    fields.refuse(value.line, where, `${found.length} ports are more than ${portLimit}`, "publish fewer");
    return [];
  }
  return found;
}

function readShort(fields: Fields, item: Value, where: string): Mapping | undefined {
  const text = fields.text(item, where);
  if (text === undefined) return undefined;
  return (
    shortForm(text.text) ??
    fields.refuse(text.line, where, `'${text.text}' is not a port`, 'write it like "8080:80" or "53:53/udp"')
  );
}

function longForm(fields: Fields, item: Value, where: string): Mapping | undefined {
  const keys = ["target", "published", "protocol", "host_ip", "mode", "name", "app_protocol"] as const;
  const found = fields.record(item, where, keys);
  if (found.mode !== undefined) fields.choice(found.mode, `${where}.mode`, ["host", "ingress"]);
  if (found.target === undefined) return fields.refuse(item.line, where, "it names no target");
  const text = (key: (typeof keys)[number]) => {
    const member = found[key];
    return member === undefined ? undefined : fields.string(member, `${where}.${key}`);
  };
  const target = text("target");
  if (target === undefined) return undefined;
  return {
    address: text("host_ip") ?? "",
    published: text("published"),
    target,
    protocol: text("protocol") ?? "tcp",
  };
}

function expand(
  fields: Fields,
  line: number,
  where: string,
  mapping: Mapping,
  notes: Note[],
): PublishedPort[] {
  const { address, published = mapping.target, target, protocol } = mapping;
  if (protocol !== "tcp" && protocol !== "udp") {
    fields.refuse(line, where, `'${protocol}' is not forwarded`, "tcp or udp");
    return [];
  }
  if (!["", "0.0.0.0", "[::]", "::"].includes(address)) {
    const loopback = /^127\.|^\[?::1\]?$/.test(address);
    fields.refuse(
      line,
      where,
      loopback
        ? `${address} is for whoever runs the machine alone, and a guest's ports are reached from outside`
        : `${address} is an address of one host, and the image runs on any`,
      loopback
        ? "remove the line if only other services use it; the address, if everyone may"
        : "remove the address",
    );
    return [];
  }
  const [from, to] = [range(published), range(target)];
  if (from === undefined || to === undefined) {
    fields.refuse(line, where, `'${published}:${target}' is not a port or range from 1 to 65535`);
    return [];
  }
  if (from[1] - from[0] !== to[1] - to[0]) {
    fields.refuse(line, where, `the ranges ${published} and ${target} have different lengths`);
    return [];
  }
  if (to[1] - to[0] >= portLimit) {
    fields.refuse(line, where, `the range ${target} has more than ${portLimit} ports`, "publish fewer");
    return [];
  }
  if (mapping.published === undefined) {
    notes.push({ line, where, text: `published as ${published}, the same as inside` });
  }
  return Array.from({ length: to[1] - to[0] + 1 }, (_, i) => ({
    protocol: protocol as Protocol,
    published: from[0] + i,
    target: to[0] + i,
    line,
  }));
}
