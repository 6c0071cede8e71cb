// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import test from "node:test";
import { concat, toHex } from "@caisson/vocabulary/bytes";
import { eventLog, noise } from "../testing/synthetic.ts";
import { measuredEvents, parseEventLog, payloadBinding } from "./event-log.ts";
import * as ev from "./event-types.ts";
import { replay } from "./rtmr.ts";
import { guessIndexing, replayPcrs } from "./tpm-log.ts";

const sha = (algorithm: string, ...parts: Uint8Array[]): Uint8Array =>
  new Uint8Array(
    createHash(algorithm)
      .update(concat(...parts))
      .digest(),
  );
const sha384 = (...parts: Uint8Array[]) => sha("sha384", ...parts);
const both: [number, number][] = [
  [0xb, 32],
  [0xc, 48],
];
const event = (index: number, type: number, data: Uint8Array, measured = data) => ({
  index,
  type,
  digests: [
    [0xb, sha("sha256", measured)],
    [0xc, sha384(measured)],
  ] as [number, Uint8Array][],
  data,
});
const trial = (release: string) =>
  parseEventLog(
    readFileSync(new URL(`../../vectors/trial/ovmf-${release}-direct-boot.tcg2`, import.meta.url)),
  );

test("a log parses into its events, and PCRs replay in both banks", async () => {
  const bytes = eventLog(both, [
    event(4, 5, noise(9)),
    event(0, 4, new Uint8Array(4)),
    event(4, 4, new Uint8Array(4)),
  ]);
  const log = parseEventLog(bytes);
  deepEqual(log.algorithms, ["sha256", "sha384"]);
  deepEqual(
    log.events.map(({ index, type }) => [index, type]),
    [
      [4, 5],
      [0, 4],
      [4, 4],
    ],
  );
  equal(log.end, bytes.length);
  for (const [bank, size] of [
    ["sha256", 32],
    ["sha384", 48],
  ] as const) {
    const first = sha(bank, new Uint8Array(size), sha(bank, noise(9)));
    const expected = sha(bank, first, sha(bank, new Uint8Array(4)));
    deepEqual((await replayPcrs(log, bank)).get(4), expected);
  }
});

// What the TPM held after these boots (vectors/trial/README.md).
const trialPcrs = {
  "2022.11": {
    4: "9c61282befa4c8a5a3d3d5c2add1957dbe8890a8bc083234dcf964620415ddca1cb863fab4b5b6954551bba9a14c8fe4",
    5: "c50b529497c7f441ea47305587d6ce83e2e31f7b4fab6c13dc0b0c3c900e1d0caf0768321100927862df142bf0465ee4",
    9: "0a97e793498e476869eb6be031c439c6b91bddc54b34a1ce8341d9e4ca3b201061f2ea43707eaf9ee60035fccd8e6d2d",
  },
  "2025.02": {
    1: "578e847954948dd05cd2a970b3171f119d430458570e4c03713d42335daf73331ce0c8c21d379eb23edcb29c213e92dc",
    4: "9c61282befa4c8a5a3d3d5c2add1957dbe8890a8bc083234dcf964620415ddca1cb863fab4b5b6954551bba9a14c8fe4",
    7: "384a798e98b5369727295c5b2889e1e015c65b3add6d78dce4e457c164865ee2af7b6d53ac7cbcd092eaf5fa1a76ea18",
  },
  "2026.08": {
    1: "ada78a11d8b843b9d88a2a9022aa7f0d790f3495e7c2895af71046e5024f117c7c07148e0d24c736d6f9d8bd3b034f96",
    7: "384a798e98b5369727295c5b2889e1e015c65b3add6d78dce4e457c164865ee2af7b6d53ac7cbcd092eaf5fa1a76ea18",
    9: "0a97e793498e476869eb6be031c439c6b91bddc54b34a1ce8341d9e4ca3b201061f2ea43707eaf9ee60035fccd8e6d2d",
  },
};
for (const [release, pcrs] of Object.entries(trialPcrs)) {
  test(`the log of a real boot under OVMF ${release} replays to the PCRs that its TPM held`, async () => {
    const values = await replayPcrs(trial(release));
    for (const [pcr, expected] of Object.entries(pcrs)) equal(toHex(values.get(Number(pcr))!), expected);
  });
}

test("a real log: every payload that is its digest's preimage is told from mere descriptions", async () => {
  const events = measuredEvents(trial("2025.02"), "pcr");
  const bindings = await Promise.all(
    events.map(async (e) => `${e.type.toString(16)} ${await payloadBinding(e)}`),
  );
  deepEqual([...new Set(bindings)].sort(), [
    "4 whole",
    "6 description",
    "8 whole",
    "80000001 whole",
    "80000002 variable-data",
    "80000003 description",
    "80000007 whole",
    "80000008 description",
    "a description",
  ]);
});

test("an altered payload of a type that measures its payload is a mismatch", async () => {
  const digest = sha384(new TextEncoder().encode("Exit Boot Services Invocation"));
  const altered = { type: ev.EV_EFI_ACTION, digest, data: new TextEncoder().encode("nothing happened") };
  equal(await payloadBinding(altered), "mismatch");
});

const sha384Only = [[0xc, 48]] as const;
const single = (index: number, type = 4) => ({
  index,
  type,
  digests: [[0xc, noise(48)]] as const,
  data: new Uint8Array(4),
});
const locality = { ...single(0, ev.EV_NO_ACTION), data: new TextEncoder().encode("StartupLocality\0\x03") };
for (const [name, algorithms, events, expected] of [
  ["events of PCR 0 alone", sha384Only, [single(0)], "pcr"],
  ["an index that is not a measurement register", sha384Only, [single(1), single(5)], "pcr"],
  ["a TPM's start-up locality", sha384Only, [locality, single(1)], "pcr"],
  ["other banks than a TD's", both, [event(1, 4, noise(3))], "pcr"],
  ["measurement registers, a record without a register first", sha384Only, [single(0, 3), single(1)], "cc"],
  ["no event", sha384Only, [], undefined],
  ["records that extend nothing", sha384Only, [single(1, 3)], undefined],
] as const) {
  test(`what indices mean: ${name}`, () => {
    equal(guessIndexing(parseEventLog(eventLog(algorithms, events))), expected);
  });
}

test("indices: PCRs fold into registers by edk2's mapping, in log order", async () => {
  const log = parseEventLog(
    eventLog(
      both,
      [7, 1, 2, 6, 8, 15, 0, 16].map((pcr) => event(pcr, 4, noise(3, pcr + 1))),
    ),
  );
  equal(guessIndexing(log), "pcr");
  const events = measuredEvents(log, "pcr");
  deepEqual(
    events.map(({ pcr, register }) => [pcr, register]),
    [
      [7, "rtmr0"],
      [1, "rtmr0"],
      [2, "rtmr1"],
      [6, "rtmr1"],
      [8, "rtmr2"],
      [15, "rtmr2"],
      [0, "mrtd"],
    ],
  );
  const { rtmr0 } = await replay(events);
  deepEqual(rtmr0, sha384(sha384(new Uint8Array(48), sha384(noise(3, 8))), sha384(noise(3, 2))));
});

test("indices of a CC log: n is RTMR n−1, 0 and 5 cannot be extended", () => {
  const cc = (index: number) =>
    parseEventLog(
      eventLog(
        [[0xc, 48]],
        [{ index, type: 4, digests: [[0xc, new Uint8Array(48)]], data: new Uint8Array() }],
      ),
    );
  equal(measuredEvents(cc(4), "cc")[0]!.register, "rtmr3");
  throws(() => measuredEvents(cc(0), "cc"), { code: "log/register" });
  throws(() => measuredEvents(cc(5), "cc"), { code: "log/register" });
});

test("EV_NO_ACTION extends nothing; a startup locality sets PCR 0's first value", async () => {
  const locality = concat(new TextEncoder().encode("StartupLocality\0"), Uint8Array.of(3));
  const log = parseEventLog(eventLog(both, [event(0, 3, locality), event(0, 4, noise(4))]));
  equal(measuredEvents(log, "pcr").length, 1);
  const initial = new Uint8Array(48);
  initial[47] = 3;
  deepEqual((await replayPcrs(log)).get(0), sha384(initial, sha384(noise(4))));
});

for (const [name, tail] of [
  ["erased memory", new Uint8Array(100).fill(0xff)],
  ["zero padding", new Uint8Array(100)],
  ["two erased bytes", new Uint8Array(2).fill(0xff)],
] as const) {
  test(`a log ends at ${name}`, () => {
    const bytes = eventLog(both, [event(1, 4, noise(4))]);
    const log = parseEventLog(concat(bytes, tail));
    equal(log.events.length, 1);
    equal(log.end, bytes.length);
  });
}

const good = eventLog(both, [event(1, 4, noise(4)), event(2, 5, noise(20))]);
const changed = (offset: number, ...bytes: number[]) => {
  const copy = good.slice();
  copy.set(bytes, offset);
  return copy;
};
const firstEvent = 32 + 37;
for (const [name, bytes, code] of [
  ["no Spec ID record", changed(32, 0x58), "log/malformed"],
  ["no algorithms", changed(32 + 24, 0), "log/malformed"],
  ["a billion algorithms", changed(32 + 24, 0, 0, 0, 0x40), "log/malformed"],
  ["an algorithm declared twice", changed(32 + 28, 0x0c, 0, 48, 0), "log/algorithm"],
  ["SHA-384 declared with 20 bytes", changed(32 + 34, 20), "log/algorithm"],
  ["a Spec ID size that disagrees", changed(28, 36), "log/malformed"],
  ["more digests than algorithms", changed(firstEvent + 8, 3), "log/malformed"],
  ["an undeclared digest algorithm", changed(firstEvent + 12, 0x0d), "log/algorithm"],
  ["a repeated digest algorithm", changed(firstEvent + 12 + 34, 0x0b), "log/algorithm"],
  ["an event of 4 GiB", changed(firstEvent + 12 + 34 + 50, 0xff, 0xff, 0xff, 0xff), "log/truncated"],
  ["an empty input", new Uint8Array(), "log/truncated"],
] as const) {
  test(`refused: ${name}`, () => {
    throws(() => parseEventLog(bytes), { name: "MeasureError", code });
  });
}

test("refused: a record without the wanted bank", async () => {
  const log = parseEventLog(
    eventLog(both, [{ index: 1, type: 4, digests: [[0xb, noise(32)]], data: noise(1) }]),
  );
  throws(() => measuredEvents(log, "pcr"), { code: "log/no-sha384" });
  await rejects(replayPcrs(log), { code: "log/algorithm" });
  await rejects(replayPcrs(log, "sm3"), { code: "log/algorithm" });
});
