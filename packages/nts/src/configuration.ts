// SPDX-License-Identifier: Apache-2.0
/**
 * Which servers are asked, and what counts as agreement. The same shape in the measured image, in the instance
 * document of the development flavour, and in the file of `caisson time --servers`.
 */
import { isIP } from "node:net";
import {
  integer,
  list,
  object,
  oneOf,
  optional,
  type Schema,
  SchemaError,
  text,
} from "@caisson/vocabulary/schema";
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

const hostName = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/;
const operatorName = /^[a-z0-9][a-z0-9.-]{0,63}$/;

/** `schema`, where the text is an address or not one, as `isAddress` says. */
const addressed =
  (expected: string, schema: Schema<string>, isAddress: boolean): Schema<string> =>
  (value) => {
    const found = schema(value);
    if ((isIP(found) !== 0) !== isAddress)
      throw new SchemaError("", `expected ${expected}, found "${found}"`);
    return found;
  };

const sourceSchema = object({
  name: addressed("a DNS name", text("a DNS name in lower case", hostName, 253), false),
  operator: text("1 to 64 of a-z 0-9 . -", operatorName, 64),
  address: optional(addressed("an address", text("an IPv4 or IPv6 address", /^[0-9A-Fa-f.:]+$/, 45), true)),
  kePort: optional(integer(1, 65535)),
  ca: text("PEM certificates", /^/, 256 * 1024),
});

/** The version of this format. A file that names none is of the first. */
const timeConfigurationVersion = "caisson/time/v1";

const schema = object({
  version: optional(oneOf(timeConfigurationVersion)),
  sources: list(sourceSchema, 1, maxSources),
  minOperators: optional(integer(1, maxSources)),
  limits: optional(
    object({
      maxRttMs: optional(integer(1, 5000)),
      maxWidthMs: optional(integer(1, 10_000)),
      timeoutMs: optional(integer(100, 120_000)),
    }),
  ),
});

/** Checks an untrusted value, fills in defaults. Throws NtsError `nts/configuration` that names the field. */
export function parseTimeConfiguration(value: unknown): TimeConfiguration {
  const { sources, minOperators = defaultMinOperators, limits } = read(value);
  const twice = sources.find(
    (source, index) => sources.findIndex((other) => other.name === source.name) !== index,
  );
  if (twice !== undefined) throw new NtsError("nts/configuration", `source '${twice.name}' is listed twice`);
  for (const { ca } of sources) parseRoots(ca);
  const operators = new Set(sources.map(({ operator }) => operator)).size;
  if (minOperators > operators) {
    throw new NtsError(
      "nts/configuration",
      `minOperators is ${minOperators}, but the sources belong to ${operators} operators`,
      { fix: "name sources of more operators" },
    );
  }
  return {
    sources: sources.map(({ kePort = defaultKePort, ...source }) => ({ ...source, kePort })),
    minOperators,
    limits: { ...defaultLimits, ...limits },
  };
}

function read(value: unknown): ReturnType<typeof schema> {
  try {
    return schema(value);
  } catch (error) {
    if (!(error instanceof SchemaError)) throw error;
    const where = error.path === "" ? "the configuration" : error.path;
    throw new NtsError("nts/configuration", `${where}: ${error.message}`);
  }
}
