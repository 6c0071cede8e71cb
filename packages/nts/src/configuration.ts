// SPDX-License-Identifier: Apache-2.0
/**
 * Which servers are asked, and what counts as agreement. The same shape in the measured image, in the instance
 * document of the development flavour, and in the file of `caisson time --servers`.
 */
import { isIP } from "node:net";
import { parseRoots } from "./certificates.ts";
import { NtsError } from "./errors.ts";

/** One NTS key establishment server. */
export interface TimeSource {
  /** DNS name that its certificate must carry; looked up unless `address` is given. */
  name: string;
  /** Who runs it. Operators vote, not servers. */
  operator: string;
  /** IPv4 or IPv6 address to connect to instead of asking DNS, which is not trusted but may be absent. */
  address?: string;
  /** TCP port of key establishment. */
  kePort: number;
  /** The CA roots that may vouch for `name`, PEM. No others are trusted, whatever the system has. */
  ca: string;
}

export interface TimeConfiguration {
  sources: TimeSource[];
  /** The quorum is never smaller than this; it is larger when this is not a majority of the operators. */
  minOperators: number;
  limits: {
    /** Answers with a longer round trip are not counted. An attacker who delays gains at most half of it. */
    maxRttMs: number;
    /** A wider result is refused. */
    maxWidthMs: number;
    /** After this long without agreement, the answer is no. */
    timeoutMs: number;
  };
}

export const defaultKePort = 4460;
export const defaultMinOperators = 3;
export const defaultLimits = { maxRttMs: 1000, maxWidthMs: 250, timeoutMs: 10_000 };
const maxSources = 16;

/** Checks an untrusted value, fills in defaults. Throws NtsError `nts/configuration` that names the field. */
export function parseTimeConfiguration(value: unknown): TimeConfiguration {
  const top = object(value, "the configuration", ["sources", "minOperators", "limits"]);
  if (!Array.isArray(top.sources) || top.sources.length < 1 || top.sources.length > maxSources) {
    throw wrong("sources", `a list of 1 to ${maxSources}`, top.sources);
  }
  const sources = top.sources.map((source, index) => parseSource(source, `sources[${index}]`));
  const twice = sources.find(
    (source, index) => sources.findIndex((other) => other.name === source.name) !== index,
  );
  if (twice !== undefined) throw new NtsError("nts/configuration", `source '${twice.name}' is listed twice`);

  const operators = new Set(sources.map((source) => source.operator)).size;
  const minOperators = integer(top.minOperators ?? defaultMinOperators, "minOperators", 1, maxSources);
  if (minOperators > operators) {
    throw new NtsError(
      "nts/configuration",
      `minOperators is ${minOperators}, but the sources belong to ${operators} operators`,
      { fix: "name sources of more operators" },
    );
  }
  const limits = object(top.limits ?? {}, "limits", ["maxRttMs", "maxWidthMs", "timeoutMs"]);
  return {
    sources,
    minOperators,
    limits: {
      maxRttMs: integer(limits.maxRttMs ?? defaultLimits.maxRttMs, "limits.maxRttMs", 1, 5000),
      maxWidthMs: integer(limits.maxWidthMs ?? defaultLimits.maxWidthMs, "limits.maxWidthMs", 1, 10_000),
      timeoutMs: integer(limits.timeoutMs ?? defaultLimits.timeoutMs, "limits.timeoutMs", 100, 120_000),
    },
  };
}

function parseSource(value: unknown, where: string): TimeSource {
  const source = object(value, where, ["name", "operator", "address", "kePort", "ca"]);
  const { name, operator, address, ca } = source;
  if (typeof name !== "string" || name.length > 253 || !hostName.test(name) || isIP(name) !== 0) {
    throw wrong(`${where}.name`, "a DNS name in lower case", name);
  }
  if (typeof operator !== "string" || !operatorName.test(operator)) {
    throw wrong(`${where}.operator`, "1 to 64 of a-z 0-9 . -", operator);
  }
  if (address !== undefined && (typeof address !== "string" || isIP(address) === 0)) {
    throw wrong(`${where}.address`, "an IPv4 or IPv6 address", address);
  }
  if (typeof ca !== "string" || ca.length > 256 * 1024) throw wrong(`${where}.ca`, "PEM certificates", ca);
  parseRoots(ca);
  const kePort = integer(source.kePort ?? defaultKePort, `${where}.kePort`, 1, 65535);
  return { name, operator, ...(address !== undefined && { address }), kePort, ca };
}

const hostName = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/;
const operatorName = /^[a-z0-9][a-z0-9.-]{0,63}$/;

function wrong(where: string, expected: string, found: unknown): NtsError {
  return new NtsError("nts/configuration", `${where} is not ${expected}`, {
    facts: [["found", (JSON.stringify(found) ?? "nothing").slice(0, 80)]],
  });
}

function object(value: unknown, where: string, keys: readonly string[]): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw wrong(where, "an object", value);
  const stranger = Object.keys(value).find((key) => !keys.includes(key));
  if (stranger !== undefined) {
    throw new NtsError("nts/configuration", `${where} has an unknown field '${stranger}'`, {
      facts: [["known", keys.join(", ")]],
    });
  }
  return value as Record<string, unknown>;
}

function integer(value: unknown, where: string, least: number, most: number): number {
  if (!Number.isInteger(value) || (value as number) < least || (value as number) > most) {
    throw wrong(where, `a whole number from ${least} to ${most}`, value);
  }
  return value as number;
}
