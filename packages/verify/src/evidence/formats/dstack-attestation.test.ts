// SPDX-License-Identifier: Apache-2.0
/** dstack's versioned attestations of every kind of guest, in SCALE and MessagePack: read, cut, changed, contradicting. */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { test } from "node:test";
import { mintNitro, nitroHierarchy } from "@caisson/simulated/aws-pki";
import { hierarchy, mint } from "@caisson/simulated/pki";
import { issueQuote } from "@caisson/simulated/quotes";
import fc from "fast-check";
import { VerifyError } from "../../errors.ts";
import { readPolicy } from "../../policy/policy.ts";
import { verifyEvidence, verifyGenuine } from "../../verify.ts";
import { isQuote } from "../evidence.ts";
import { readEvidence } from "./every-form.ts";

const times = { issued: new Date("2026-01-01T00:00:00Z"), expires: new Date("2027-01-01T00:00:00Z") };
const now = new Date("2026-06-01T00:00:00Z");
const reportData = Buffer.alloc(64, 5);
const h = hierarchy("dstack", times);
const { pckChain, collateral, trust } = mint(h);
const quote = Buffer.from(issueQuote(h, pckChain, { reportData: reportData.toString("hex") }, "td10-v4"));
const nitro = mintNitro(
  nitroHierarchy(
    { issued: new Date("2026-06-01T00:00:00Z"), expires: new Date("2026-06-01T03:00:00Z") },
    "tpm",
  ),
);
const report = Buffer.alloc(1184);
report[0] = 3;
report[0x34] = 1;
const utf8 = (text: string) => Buffer.from(text);

const u32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const compact = (value: number): Buffer =>
  value < 64
    ? Buffer.of(value * 4)
    : value < 1 << 14
      ? u32(value * 4 + 1).subarray(0, 2)
      : u32(value * 4 + 2);
const scale = (bytes: Uint8Array): Buffer => Buffer.concat([compact(bytes.length), bytes]);
const scaleList = (items: readonly Buffer[]): Buffer => Buffer.concat([compact(items.length), ...items]);

interface Event {
  imr: number;
  event_type: number;
  digest: Uint8Array;
  event: string;
  event_payload: Uint8Array;
}
const log: Event[] = [
  { imr: 2, event_type: 6, digest: Buffer.alloc(48, 8), event: "", event_payload: Buffer.alloc(0) },
  {
    imr: 1,
    event_type: 0x80000003,
    digest: Buffer.alloc(48, 7),
    event: "kernel",
    event_payload: utf8("x".repeat(100)),
  },
  {
    imr: 3,
    event_type: 0x08000001,
    digest: Buffer.alloc(0),
    event: "app-id",
    event_payload: Buffer.of(0, 255),
  },
];
const scaleEvent = ({ imr, event_type, digest, event, event_payload }: Event) =>
  Buffer.concat([u32(imr), u32(event_type), scale(digest), scale(utf8(event)), scale(event_payload)]);
const tdxPart = Buffer.concat([scale(quote), scaleList(log.map(scaleEvent))]);
const tpmQuote = Buffer.concat([
  scale(utf8("message")),
  scale(utf8("signature")),
  scaleList([Buffer.concat([u32(0), scale(utf8("sha256")), scale(Buffer.alloc(32))])]),
  scale(utf8("certificate")),
  Buffer.of(1),
  scaleList([Buffer.concat([u32(4), scale(Buffer.alloc(32))])]),
]);
/** The parts of each kind, before what all kinds have. */
const parts = {
  tdx: tdxPart,
  "gcp-tdx": Buffer.concat([tdxPart, tpmQuote]),
  "nitro-enclave": scale(nitro.document),
  "sev-snp": Buffer.concat([scale(report), scaleList([]), scale(utf8("{}"))]),
  "aws-nitro-tpm": scale(nitro.document),
};
type Kind = keyof typeof parts;
const kinds = Object.keys(parts) as Kind[];
const tail = Buffer.concat([
  scaleList([Buffer.concat([scale(utf8("app-id")), scale(Buffer.of(0, 255))])]),
  reportData,
  scale(utf8("{}")),
]);
const version0 = (kind: Kind, part = parts[kind]) =>
  Buffer.concat([Buffer.of(0, kinds.indexOf(kind)), part, tail]);

/** MessagePack as dstack's encoder writes it: a `Vec<u8>` is a list of numbers where nothing else is said. */
type Value = number | string | Uint8Array | Value[] | { [name: string]: Value };
function pack(value: Value): Buffer {
  if (typeof value === "number")
    return value < 0x80
      ? Buffer.of(value)
      : value < 0x100
        ? Buffer.of(0xcc, value)
        : Buffer.concat([Buffer.of(0xce), u32(value).reverse()]);
  if (typeof value === "string")
    return value.length < 32
      ? Buffer.concat([Buffer.of(0xa0 | value.length), utf8(value)])
      : Buffer.concat([Buffer.of(0xd9, value.length), utf8(value)]);
  if (value instanceof Uint8Array) return Buffer.concat([Buffer.of(0xc4, value.length), value]);
  const head = (small: number, count: number) =>
    count < 16 ? Buffer.of(small | count) : Buffer.of(0xdc, count >> 8, count & 255);
  if (Array.isArray(value)) return Buffer.concat([head(0x90, value.length), ...value.map(pack)]);
  const members = Object.entries(value);
  return Buffer.concat([
    head(0x80, members.length),
    ...members.flatMap(([name, one]) => [pack(name), pack(one)]),
  ]);
}
const data1: Record<Kind, { [name: string]: Value }> = {
  tdx: { quote: [...quote], event_log: log.map((event) => ({ ...event })) },
  "gcp-tdx": {
    quote: [...quote],
    event_log: log.map((event) => ({ ...event })),
    tpm_quote: { message: utf8("m") },
  },
  "nitro-enclave": { nsm_quote: [...nitro.document] },
  "sev-snp": { report: [...report], cert_chain: [], mr_config: "{}" },
  "aws-nitro-tpm": { attestation_doc: [...nitro.document] },
};
const tree = (kind: Kind, data = data1[kind]) => ({
  version: 1,
  platform: { kind, data },
  stack: {
    kind: "dstack",
    data: {
      report_data: [...reportData],
      runtime_events: [{ event: "app-id", payload: Buffer.of(0, 255) }],
      config: "{}",
    },
  },
});
const version1 = (kind: Kind, data = data1[kind]) => pack(tree(kind, data));
const asDocument = (bytes: Uint8Array) =>
  utf8(JSON.stringify({ attestation: Buffer.from(bytes).toString("hex") }));
const claim = { scheme: "raw", fields: { data: new Uint8Array(reportData) } };

for (const [name, of] of [
  ["version 0", version0],
  ["version 1", version1],
] as const) {
  for (const kind of kinds) {
    test(`${name} of ${kind}: hardware's evidence, from bytes, their text and JSON`, () => {
      const bytes = of(kind);
      const read = readEvidence(new Uint8Array(bytes));
      deepEqual(readEvidence(asDocument(bytes)), read);
      deepEqual(readEvidence(utf8(bytes.toString("base64"))), read);
      if (kind.includes("nitro")) return deepEqual(read, { platform: "nitro", document: nitro.document });
      if (kind === "sev-snp")
        return deepEqual(read, { platform: "snp", report: new Uint8Array(report), reportData: claim });
      ok(isQuote(read));
      deepEqual(read.quote, new Uint8Array(quote));
      deepEqual(read.reportData, claim);
      deepEqual(read.bootLog, {
        format: "events",
        events: [
          { register: 2, digest: new Uint8Array(48).fill(8) },
          { register: 1, digest: new Uint8Array(48).fill(7) },
        ],
      });
      deepEqual(
        read.runtimeEvents?.map(({ name: event, payload, encoding }) => [
          event,
          Buffer.from(payload).toString("hex"),
          encoding,
        ]),
        [["app-id", "00ff", 1]],
      );
    });

    test(`${name} of ${kind}: whatever is cut off or put behind it is refused`, () => {
      const bytes = new Uint8Array(of(kind));
      // Inside the quote or document one place in 97 stands for all.
      for (let size = 2; size < bytes.length; size += size > 200 && size < bytes.length - 300 ? 97 : 1) {
        throws(() => readEvidence(asDocument(bytes.subarray(0, size))), VerifyError, `${size} bytes`);
      }
      throws(() => readEvidence(asDocument(Buffer.concat([bytes, Buffer.of(0)]))), {
        code: "evidence/malformed",
      });
    });

    test(`${name} of ${kind}: any change is read or refused, by an error of ours`, () => {
      const bytes = of(kind);
      fc.assert(
        fc.property(fc.nat(bytes.length - 1), fc.nat(255), (at, value) => {
          const copy = Buffer.from(bytes);
          copy[at] = value;
          try {
            readEvidence(asDocument(copy));
          } catch (error) {
            ok(error instanceof VerifyError, String(error));
          }
        }),
      );
    });
  }
}

test("a Nitro document in an attestation, and a quote, are judged as they are by themselves", async () => {
  const root = { now: new Date("2026-06-01T00:30:00Z"), nitroRoot: nitro.root };
  for (const bytes of [version0("aws-nitro-tpm"), version1("aws-nitro-tpm")])
    equal((await verifyGenuine(readEvidence(bytes), root)).verdict, "accepted");
  for (const bytes of [version0("tdx"), version1("gcp-tdx")]) {
    const judged = await verifyGenuine(readEvidence(bytes), { now, collateral });
    // All but the root, which is a test's.
    deepEqual(judged.codes, ["chain/untrusted-root"]);
  }
});

test("report data that the quote does not have is refused, though nobody asked for any", async () => {
  const other = version1("tdx", { ...data1.tdx, quote: [...issueQuote(h, pckChain, {}, "td10-v4")] });
  const policy = readPolicy({
    version: "caisson/policy/v1",
    platforms: ["emulated"],
    simulatedRoot: Buffer.from(trust.rootKey).toString("hex"),
    tcb: { minimumEvaluationNumber: "any" },
    platformIdentities: "any",
    freshness: "any",
  });
  const evidence = readEvidence(other);
  ok(isQuote(evidence));
  const { codes } = await verifyEvidence({ ...evidence, platform: "emulated" }, { policy, now, collateral });
  ok(codes.includes("report-data/preimage"), codes.join());
});

for (const [name, bytes, code] of [
  ["version 2", Buffer.concat([Buffer.of(2), version0("tdx").subarray(1)]), "evidence/unsupported"],
  [
    "a kind that there is not",
    Buffer.concat([Buffer.of(0, 5), version0("tdx").subarray(2)]),
    "evidence/unsupported",
  ],
  ["version 2 in MessagePack", pack({ ...tree("tdx"), version: 2 }), "evidence/unsupported"],
  [
    "another kind in MessagePack",
    pack({ ...tree("tdx"), platform: { kind: "cca", data: {} } }),
    "evidence/unsupported",
  ],
  ["a kind with another's evidence", pack(tree("tdx", data1["sev-snp"])), "evidence/malformed"],
  [
    "report data of 63 bytes",
    pack({
      ...tree("tdx"),
      stack: {
        kind: "dstack",
        data: { report_data: [...reportData.subarray(1)], runtime_events: [], config: "" },
      },
    }),
    "evidence/malformed",
  ],
  [
    "a number in a quote that is not a byte",
    pack(tree("tdx", { ...data1.tdx, quote: [...quote.subarray(1), 256] })),
    "evidence/malformed",
  ],
  ["a quote that is text", pack(tree("tdx", { ...data1.tdx, quote: "04000200" })), "evidence/malformed"],
  [
    "a report of another size",
    pack(tree("sev-snp", { ...data1["sev-snp"], report: [3, 0, 0, 0] })),
    "evidence/malformed",
  ],
  [
    "an event of a register that there is not",
    pack(tree("tdx", { ...data1.tdx, event_log: [{ ...log[0]!, imr: 4 }] })),
    "evidence/malformed",
  ],
  [
    "an event of version 3",
    pack(tree("tdx", { ...data1.tdx, event_log: [{ ...log[2]!, version: 3 }] })),
    "evidence/malformed",
  ],
  [
    "a name twice",
    Buffer.concat([Buffer.of(0x84), version1("tdx").subarray(1), pack("version"), pack(1)]),
    "evidence/malformed",
  ],
  [
    "a list longer than its bytes",
    Buffer.concat([Buffer.of(0x83), pack("version"), Buffer.of(0xdd, 0xff, 0xff, 0xff, 0xff)]),
    "evidence/malformed",
  ],
  [
    "a map longer than its bytes",
    Buffer.concat([Buffer.of(0x83), pack("version"), Buffer.of(0xdf, 0xff, 0xff, 0xff, 0xff)]),
    "evidence/malformed",
  ],
  [
    "nesting",
    Buffer.concat([Buffer.of(0x83), pack("version"), Buffer.alloc(5000, 0x91)]),
    "evidence/malformed",
  ],
  [
    "a number in a longer form",
    Buffer.concat([Buffer.of(0x83), pack("version"), Buffer.of(0xcc, 1), version1("tdx").subarray(10)]),
    "evidence/malformed",
  ],
  [
    "an extension type",
    Buffer.concat([Buffer.of(0x83), pack("version"), Buffer.of(0xd4, 1, 1)]),
    "evidence/malformed",
  ],
  [
    "a float",
    Buffer.concat([Buffer.of(0x83), pack("version"), Buffer.of(0xcb), Buffer.alloc(8)]),
    "evidence/malformed",
  ],
  [
    "a length in a longer form",
    version0("tdx", Buffer.concat([u32(5 * 4 + 2), Buffer.alloc(5), scaleList([])])),
    "evidence/malformed",
  ],
  [
    "a length that nothing can have",
    version0("tdx", Buffer.concat([Buffer.of(3), Buffer.alloc(2000)])),
    "evidence/malformed",
  ],
  [
    "events without end",
    version0("tdx", Buffer.concat([scale(quote), u32(((1 << 30) - 1) * 4 + 2)])),
    "evidence/malformed",
  ],
  [
    "two authorities that are not certificates",
    version0(
      "sev-snp",
      Buffer.concat([
        scale(report),
        scaleList([scale(Buffer.alloc(24)), scale(Buffer.alloc(24))]),
        scale(utf8("{}")),
      ]),
    ),
    undefined,
  ],
] as const) {
  test(`dstack's attestation with ${name}: ${code ?? "left to the verifier"}`, () => {
    if (code !== undefined) throws(() => readEvidence(asDocument(bytes)), { code });
    else
      deepEqual(readEvidence(asDocument(bytes)), {
        platform: "snp",
        report: new Uint8Array(report),
        reportData: claim,
        collateral: { chain: [new Uint8Array(24), new Uint8Array(24)] },
      });
  });
}

test("a log that dstack stripped is not a boot log: its registers are compared whole", () => {
  const acpi = { ...log[0]!, imr: 0, event: "acpi-tables" };
  for (const boot of [[], [acpi], [acpi, log[0]!]]) {
    const evidence = readEvidence(
      new Uint8Array(
        version1("tdx", { ...data1.tdx, event_log: [...boot, log[2]!].map((event) => ({ ...event })) }),
      ),
    );
    ok(isQuote(evidence));
    deepEqual([evidence.bootLog, evidence.runtimeEvents?.length], [undefined, 1]);
  }
});

test("an attestation inside a document that names its platform", () => {
  const evidence = { attestation: version0("tdx").toString("hex") };
  deepEqual(
    readEvidence(utf8(JSON.stringify({ platform: "tdx", evidence }))),
    readEvidence(new Uint8Array(version0("tdx"))),
  );
});

test("a list of four million values is refused before it is made", () => {
  const head = version1("tdx").subarray(0, version1("tdx").indexOf(pack("data")) + 5);
  const bytes = Buffer.concat([head, Buffer.of(0xdd, 0, 0x30, 0, 0), Buffer.alloc(0x300000, 1)]);
  throws(() => readEvidence(new Uint8Array(bytes)), /more than 262144 values/);
});

test("a name in MessagePack is not a way into an object's prototype", () => {
  const whole = version1("tdx");
  const at = whole.indexOf(pack("version")) + pack("version").length + 1;
  const added = Buffer.concat([
    Buffer.of(0x84),
    whole.subarray(1, at),
    pack("__proto__"),
    pack({ stack: 1 }),
    whole.subarray(at),
  ]);
  throws(() => readEvidence(asDocument(added)), { code: "evidence/malformed" });
});
