// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { suite, test } from "node:test";
import { rootCertificates } from "node:tls";
import fc from "fast-check";
import { defaultLimits, parseTimeConfiguration } from "./configuration.ts";
import { NtsError } from "./errors.ts";
import { publicConfiguration } from "./public-sources.ts";

const ca = rootCertificates[0]!;
const source = (name: string, more: object = {}) => ({
  name: `${name}.example`,
  operator: name,
  ca,
  ...more,
});
const good = { sources: [source("a"), source("b"), source("c")] };

test("defaults", () => {
  const { minOperators, limits, sources } = parseTimeConfiguration(good);
  deepEqual([minOperators, limits, sources[0]!.kePort], [3, defaultLimits, 4460]);
  equal("address" in sources[0]!, false);
});

test("a parsed configuration parses again to the same", () => {
  const parsed = parseTimeConfiguration({ ...good, limits: { maxRttMs: 100 } });
  deepEqual(parseTimeConfiguration(parsed), parsed);
});

test("a file that names the format's version is the same as one that does not", () => {
  deepEqual(parseTimeConfiguration({ version: "caisson/time/v1", ...good }), parseTimeConfiguration(good));
});

suite("refused configurations name the field", () => {
  const [, b, c] = good.sources;
  const cases: [where: RegExp, value: unknown][] = [
    [/^the configuration: expected an object/, []],
    [/^servers: there is no such field/, { ...good, servers: [] }],
    [/^version: .*caisson\/time\/v1/, { ...good, version: "caisson/time/v2" }],
    [/^version/, { ...good, version: 1 }],
    [/^sources/, {}],
    [/^sources/, { sources: [] }],
    [/^sources/, { sources: Array.from({ length: 17 }, (_, i) => source(`s${i}`)) }],
    [/'a.example' is listed twice/, { sources: [...good.sources, source("a")] }],
    [/minOperators is 3, but the sources belong to 2/, { sources: good.sources.slice(1) }],
    [/^minOperators/, { ...good, minOperators: 0 }],
    [/^minOperators/, { ...good, minOperators: 1.5 }],
    [/^limits.maxRttMs/, { ...good, limits: { maxRttMs: 5001 } }],
    [/^limits.timeoutMs/, { ...good, limits: { timeoutMs: "1" } }],
    [/^limits.width: there is no such field/, { ...good, limits: { width: 1 } }],
    [/^sources\[0\].name/, { sources: [source("a", { name: "A.example" }), b, c] }],
    [/^sources\[0\].name/, { sources: [source("a", { name: "a..b" }), b, c] }],
    [/^sources\[0\].name/, { sources: [source("a", { name: "192.0.2.1" }), b, c] }],
    [/^sources\[0\].operator/, { sources: [source("a", { operator: "" }), b, c] }],
    [/^sources\[0\].address/, { sources: [source("a", { address: "time.example" }), b, c] }],
    [/^sources\[0\].kePort/, { sources: [source("a", { kePort: 65536 }), b, c] }],
    [/^sources\[0\].ca/, { sources: [source("a", { ca: undefined }), b, c] }],
    [/no PEM certificate/, { sources: [source("a", { ca: "" }), b, c] }],
    [/^sources\[0\].port: there is no such field/, { sources: [source("a", { port: 123 }), b, c] }],
  ];
  for (const [message, value] of cases) {
    test(message.source, () => {
      throws(() => parseTimeConfiguration(value), { code: "nts/configuration", kind: "input", message });
    });
  }
  test("any JSON value is parsed or refused, never a crash", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        throws(() => parseTimeConfiguration(value), NtsError);
        throws(() => parseTimeConfiguration({ sources: value }), NtsError);
        throws(() => parseTimeConfiguration({ sources: [value] }), NtsError);
      }),
    );
  });
});

test("the built-in list: at least five operators, one server each, with roots that this Node has", () => {
  const built = publicConfiguration();
  ok(new Set(built.sources.map(({ operator }) => operator)).size >= 5);
  deepEqual(parseTimeConfiguration(built), built);
});
