// SPDX-License-Identifier: Apache-2.0
/** Quotes and reports in protobufs: put together again byte for byte; every field that is wrong, twice, or of another size. */
import { deepEqual, equal, match, notDeepEqual, ok, throws } from "node:assert/strict";
import { test } from "node:test";
import { hierarchy, mint } from "@caisson/simulated/pki";
import { issueQuote } from "@caisson/simulated/quotes";
import { buildSnp } from "@caisson/verify/testing/snp-refusals";
import fc from "fast-check";
import { VerifyError } from "../../errors.ts";
import { verifyGenuine } from "../../verify.ts";
import { describeEvidence } from "../describe.ts";
import { everyForm, isEvidence, readEvidence } from "./every-form.ts";
import { forms } from "./forms.ts";
import { notEvidence } from "./not-evidence.ts";

const times = { issued: new Date("2026-01-01T00:00:00Z"), expires: new Date("2027-01-01T00:00:00Z") };
const now = new Date("2026-06-01T00:00:00Z");
const h = hierarchy("protobuf", times);
const { pckChain, collateral } = mint(h);
const [v4, v5td10, v5td15] = (["td10-v4", "td10-v5", "td15-v5"] as const).map((shape) =>
  Buffer.from(issueQuote(h, pckChain, {}, shape)),
) as [Buffer, Buffer, Buffer];
const report = Buffer.from(buildSnp({}).report);

/** A message as a list of its fields: a number, or bytes (a message's too). */
type Field = [number: number, value: number | bigint | Uint8Array];
function varint(value: number | bigint): Buffer {
  const out = [];
  let rest = BigInt(value);
  for (; rest >= 0x80n; rest >>= 7n) out.push(Number(rest & 0x7fn) | 0x80);
  return Buffer.from([...out, Number(rest)]);
}
/** As Go's encoder writes it: zero and nothing are left out. */
const encode = (fields: readonly Field[]): Buffer =>
  Buffer.concat(
    fields.flatMap(([number, value]) => {
      if (!(value instanceof Uint8Array))
        return BigInt(value) === 0n ? [] : [varint(number << 3), varint(value)];
      return value.length === 0 ? [] : [varint((number << 3) | 2), varint(value.length), value];
    }),
  );

/** Cuts fields of these sizes out of bytes, numbered from 1; a negative size is a little-endian number's. */
function cut(bytes: Buffer, sizes: readonly number[]): Field[] {
  let at = 0;
  return sizes.map((size, i) => {
    const value = bytes.subarray(at, (at += Math.abs(size)));
    return [i + 1, size < 0 ? value.readUIntLE(0, -size) : value];
  });
}
const headerOf = (quote: Buffer) => {
  const fields = cut(quote, [-2, -2, -4, 2, 2, 16, 20]);
  // On the wire the QE's SVN has the lower number, in a quote the PCE's comes first.
  [fields[3]![1], fields[4]![1]] = [fields[4]![1], fields[3]![1]];
  return fields;
};
const bodySizes = [16, 48, 48, 8, 8, 8, 48, 48, 48, 48];
function bodyOf(body: Buffer): Field[] {
  const fields = cut(body, bodySizes);
  for (let i = 0; i < 4; i++) fields.push([11, body.subarray(328 + 48 * i, 376 + 48 * i)]);
  fields.push([12, body.subarray(520, 584)]);
  if (body.length > 584) fields.push([13, body.subarray(584, 600)], [14, body.subarray(600, 648)]);
  return fields;
}
function signedOf(data: Buffer): Field[] {
  const inner = data.subarray(134);
  const auth = inner.readUInt16LE(448);
  const chain = inner.subarray(450 + auth);
  const qe = cut(inner, [16, -4, 28, 16, 32, 32, 32, 96, -2, -2, 60, 64]);
  return [
    [1, data.subarray(0, 64)],
    [2, data.subarray(64, 128)],
    [
      3,
      encode([
        [1, data.readUInt16LE(128)],
        [2, data.readUInt32LE(130)],
        [
          3,
          encode([
            [1, encode(qe)],
            [2, inner.subarray(384, 448)],
            [
              3,
              encode([
                [1, auth],
                [2, inner.subarray(450, 450 + auth)],
              ]),
            ],
            [
              4,
              encode([
                [1, chain.readUInt16LE(0)],
                [2, chain.readUInt32LE(2)],
                [3, chain.subarray(6)],
              ]),
            ],
          ]),
        ],
      ]),
    ],
  ];
}
function quoteV4(quote: Buffer): Field[] {
  const size = quote.readUInt32LE(632);
  return [
    [1, encode(headerOf(quote))],
    [2, encode(bodyOf(quote.subarray(48, 632)))],
    [3, size],
    [4, encode(signedOf(quote.subarray(636, 636 + size)))],
    [5, quote.subarray(636 + size)],
  ];
}
function quoteV5(quote: Buffer): Field[] {
  const end = 54 + quote.readUInt32LE(50);
  const size = quote.readUInt32LE(end);
  return [
    [1, encode(headerOf(quote))],
    [
      2,
      encode([
        [1, quote.readUInt16LE(48)],
        [2, end - 54],
        [3, encode(bodyOf(quote.subarray(54, end)))],
      ]),
    ],
    [3, size],
    [4, encode(signedOf(quote.subarray(end + 4, end + 4 + size)))],
  ];
}
/** Number, offset, and size (negative: a number). */
const layout: [number: number, offset: number, size: number][] = [
  [1, 0, -4],
  [2, 4, -4],
  [3, 8, -8],
  [4, 0x10, 16],
  [5, 0x20, 16],
  [6, 0x30, -4],
  [7, 0x34, -4],
  [8, 0x38, -8],
  [9, 0x40, -8],
  [10, 0x48, -4],
  [11, 0x50, 64],
  [12, 0x90, 48],
  [13, 0xc0, 32],
  [14, 0xe0, 48],
  [15, 0x110, 48],
  [16, 0x140, 32],
  [17, 0x160, 32],
  [18, 0x180, -8],
  [19, 0x1a0, 64],
  [20, 0x1e0, -8],
  [21, 0x1e8, -1],
  [22, 0x1e9, -1],
  [23, 0x1ea, -1],
  [24, 0x1ec, -1],
  [25, 0x1ed, -1],
  [26, 0x1ee, -1],
  [27, 0x1f0, -8],
  [28, 0x2a0, 512],
  [30, 0x1f8, -8],
  [31, 0x200, -8],
];
function reportFields(bytes: Buffer): Field[] {
  const fields = layout.map(([number, offset, size]): Field => {
    if (size === -8) return [number, bytes.readBigUInt64LE(offset)];
    return [number, size < 0 ? bytes.readUIntLE(offset, -size) : bytes.subarray(offset, offset + size)];
  });
  const [family, model, stepping] = bytes.subarray(0x188) as unknown as [number, number, number];
  // CPUID's own packing: 0x19 is 15 and 10 more.
  const eax = ((family - 15) << 20) | ((model >> 4) << 16) | (15 << 8) | ((model & 15) << 4) | stepping;
  return [...fields, [29, family === 0 ? 0 : eax]];
}
const derOf = (value: number) => Buffer.alloc(30, value);
const chainOf = (key: Field): Field => [2, encode([key, [2, derOf(2)], [3, derOf(3)]])];
const snp = (...more: Field[]): Field[] => [[1, encode(reportFields(report))], ...more];
const tpm = (...more: Field[]): Field[] => [
  [1, Buffer.from("0001000b00050072", "hex")],
  [2, Buffer.from("0801", "hex")],
  [2, Buffer.from("0802", "hex")],
  [3, Buffer.from("log")],
  ...more,
];
const tdx = (quote: Buffer) => ({ platform: "tdx", quote: new Uint8Array(quote) });
const snpEvidence = { platform: "snp", report: new Uint8Array(report) };
const padded = Buffer.concat([v4, Buffer.alloc(100)]);

const good: [string, Buffer, object][] = [
  ["QuoteV4", encode(quoteV4(v4)), tdx(v4)],
  ["QuoteV4 in a buffer that was larger", encode(quoteV4(padded)), tdx(padded)],
  ["QuoteV5 of a TD 1.0", encode(quoteV5(v5td10)), tdx(v5td10)],
  ["QuoteV5 of a TD 1.5", encode(quoteV5(v5td15)), tdx(v5td15)],
  ["Report", encode(reportFields(report)), snpEvidence],
  ["Attestation without certificates", encode(snp()), snpEvidence],
  [
    "Attestation with a VCEK, and what the guest thinks it runs on",
    encode(snp([3, Buffer.of(8, 1)], chainOf([1, derOf(1)]))),
    { ...snpEvidence, collateral: { endorsement: derOf(1), chain: [derOf(2), derOf(3)] } },
  ],
  [
    "Attestation with a VLEK",
    encode(snp([2, encode([[6, derOf(1)]])])),
    { ...snpEvidence, collateral: { endorsement: derOf(1) } },
  ],
  ["go-tpm-tools' around a quote", encode(tpm([9, encode(quoteV4(v4))])), tdx(v4)],
  ["go-tpm-tools' around a report", encode(tpm([8, encode(snp())])), snpEvidence],
];
/** Bytes in hexadecimal, whatever kind of array they are in. */
const plain = (value: unknown): unknown =>
  value instanceof Uint8Array
    ? Buffer.from(value).toString("hex")
    : Array.isArray(value)
      ? value.map(plain)
      : typeof value === "object" && value !== null
        ? Object.fromEntries(Object.entries(value).map(([name, one]) => [name, plain(one)]))
        : value;
const readOrError = (bytes: Uint8Array): unknown => {
  try {
    return plain(readEvidence(new Uint8Array(bytes)));
  } catch (error) {
    ok(error instanceof VerifyError, String(error));
    return error.code;
  }
};

for (const [name, bytes, expected] of good) {
  test(`${name}: the bytes that were taken apart`, () => {
    ok(isEvidence(bytes));
    equal(notEvidence(bytes), undefined);
    const read = readEvidence(new Uint8Array(bytes));
    deepEqual(plain(read), plain(expected));
    deepEqual(plain(readEvidence(Buffer.from(bytes.toString("base64")))), plain(expected));
    ok(Object.keys(describeEvidence(read).groups).length > 2);
  });

  test(`${name}: no truncation is the same evidence, and twice is refused`, () => {
    // A cut between two fields leaves a message, in which what is missing is zero: another report.
    for (let size = 0; size < bytes.length; size += bytes.length - size > 100 && size > 64 ? 31 : 1) {
      notDeepEqual(readOrError(bytes.subarray(0, size)), plain(expected), `${size} bytes`);
    }
    equal(readOrError(Buffer.concat([bytes, bytes])), "evidence/malformed");
  });

  test(`${name}: any change is read or refused, by an error of ours`, () => {
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(255), (at, value) => {
        const copy = new Uint8Array(bytes);
        copy[at] = value;
        try {
          readEvidence(copy);
        } catch (error) {
          ok(error instanceof VerifyError, String(error));
        }
      }),
    );
  });
}

test("one bit changed in any byte of a protobuf never leaves a genuine quote of other bytes", async () => {
  const bytes = encode(quoteV4(v4));
  const root = { now, collateral, trust: mint(h).trust };
  const judge = (changed: Uint8Array) =>
    verifyGenuine({ ...readEvidence(changed), platform: "tdx" } as never, root);
  equal((await judge(bytes)).verdict, "accepted");
  for (let i = 0; i < bytes.length; i++) {
    const changed = new Uint8Array(bytes).with(i, bytes[i]! ^ (1 << (i & 7)));
    let evidence: ReturnType<typeof readEvidence>;
    try {
      evidence = readEvidence(changed);
    } catch (error) {
      ok(error instanceof VerifyError);
      continue;
    }
    if (evidence.platform === "tdx" && Buffer.from(evidence.quote).equals(v4)) continue;
    equal((await verifyGenuine(evidence, root)).verdict === "accepted", false, `byte ${i}`);
  }
});

/** A field of a message changed, added or left out. */
const without = (fields: readonly Field[], number: number) => fields.filter(([one]) => one !== number);
const replaced = (fields: readonly Field[], number: number, value: Field[1]) =>
  fields.map(([one, was]): Field => [one, one === number ? value : was]);
const header = headerOf(v4);
const body = bodyOf(v4.subarray(48, 632));
const v4fields = quoteV4(v4);
const malformedOnes: [string, Buffer, code?: string][] = [
  ["a header twice", encode([...v4fields, [1, encode(header)]])],
  ["a number twice", encode([...v4fields, [3, 5]])],
  ["no body", encode(without(v4fields, 2))],
  ["no signed data", encode(without(v4fields, 4))],
  ["a size that is not its data's", encode(replaced(v4fields, 3, 5))],
  ["a register of another size", encode(replaced(v4fields, 2, encode(replaced(body, 11, Buffer.alloc(47)))))],
  ["three RTMRs", encode(replaced(v4fields, 2, encode(body.toSpliced(11, 1))))],
  ["five RTMRs", encode(replaced(v4fields, 2, encode([...body, [11, Buffer.alloc(48)]])))],
  ["an MRTD that is missing", encode(replaced(v4fields, 2, encode(without(body, 7))))],
  [
    "a version of three bytes",
    encode(replaced(v4fields, 1, encode([...header.slice(0, 1), [2, 2], [3, 0x81], [4, Buffer.alloc(3)]]))),
  ],
  ["bytes where a number is", Buffer.concat([encode(without(v4fields, 3)), Buffer.of(0x1a, 1, 5)])],
  ["a number where a message is", Buffer.concat([encode(without(v4fields, 4)), Buffer.of(0x20, 5)])],
  ["a field nobody knows", encode([...v4fields, [9, 1]]), "evidence/unsupported"],
  ["field number zero", Buffer.concat([encode(v4fields), Buffer.of(0, 0)]), "evidence/unsupported"],
  ["a group", Buffer.concat([encode(without(v4fields, 5)), Buffer.of(0x2b, 0x2c)])],
  [
    "a number in a longer form",
    Buffer.concat([encode(without(v4fields, 3)), Buffer.of(0x18, 0x85, 0x80, 0x00)]),
  ],
  ["a number without end", Buffer.concat([encode(without(v4fields, 3)), Buffer.alloc(40, 0xff)])],
  [
    "a length past everything",
    Buffer.concat([encode(without(v4fields, 5)), Buffer.from("2affffffffffffffff7f", "hex")]),
  ],
  [
    "seventy thousand fields",
    Buffer.concat([encode(v4fields), Buffer.alloc(140_000, Buffer.of(0x5a, 0))]),
    "evidence/unsupported",
  ],
  [
    "a thousand registers",
    encode(
      replaced(
        v4fields,
        2,
        encode([...body, ...Array.from({ length: 1000 }, (): Field => [11, Buffer.alloc(48)])]),
      ),
    ),
  ],
  [
    "a TD 1.0's body with a TD 1.5's fields",
    encode(
      replaced(
        quoteV5(v5td15),
        2,
        encode([
          [1, 2],
          [2, 584],
          [3, encode(bodyOf(v5td15.subarray(54, 702)))],
        ]),
      ),
    ),
    "evidence/unsupported",
  ],
  ["a report without a signature", encode([[1, encode(without(reportFields(report), 28))]])],
  [
    "a report whose version of firmware is not a byte",
    encode([[1, encode([...without(reportFields(report), 21), [21, 256]])]]),
  ],
  [
    "a report of a family with bits that it does not have",
    encode([[1, encode([...without(reportFields(report), 29), [29, 0xf0000000]])]]),
  ],
  [
    "a VCEK and a VLEK",
    encode(
      snp([
        2,
        encode([
          [1, derOf(1)],
          [6, derOf(2)],
        ]),
      ]),
    ),
  ],
  [
    "a number of 65 bits",
    Buffer.concat([
      encode(without(reportFields(report), 31)),
      Buffer.from("f801ffffffffffffffffff7f", "hex"),
    ]),
  ],
  ["go-tpm-tools' without a TEE's", encode(tpm()), "evidence/unsupported"],
  ["go-tpm-tools' with two", encode(tpm([8, encode(snp())], [9, encode(v4fields)])), "evidence/unsupported"],
];
for (const [name, bytes, code = "evidence/malformed"] of malformedOnes) {
  test(`a protobuf with ${name}: ${code}`, () => throws(() => readEvidence(new Uint8Array(bytes)), { code }));
}

test("no other form takes what begins like a protobuf, nor the other way about", () => {
  for (const [name, bytes] of good) {
    deepEqual(everyForm.filter(({ recognises }) => recognises({ bytes })).length, 1, name);
  }
  const ours = everyForm.find(({ name }) => name.includes("protobuf"))!;
  for (const bytes of [v4, v5td10, v5td15, report]) equal(ours.recognises({ bytes }), false);
  equal(forms.includes(ours), false);
});

test("any bytes that begin like one", () => {
  const starts = fc.constantFrom(
    "0a",
    "0a30080410021881",
    "0a30080510021881",
    "08051800",
    "0a080001000b",
    "0a0a08031001",
  );
  fc.assert(
    fc.property(starts, fc.uint8Array({ maxLength: 1200 }), (start, rest) => {
      try {
        readEvidence(new Uint8Array(Buffer.concat([Buffer.from(start, "hex"), rest])));
      } catch (error) {
        ok(error instanceof VerifyError, String(error));
      }
    }),
    { numRuns: 500 },
  );
});

/** Names of fields in the order of their numbers; of a message in a message, its own behind it. */
type Names = readonly (string | Inner)[];
interface Inner extends ReadonlyArray<string | Inner> {
  readonly 0: string;
}
const bodyNames = [
  ..."tee_tcb_svn mr_seam mr_signer_seam seam_attributes td_attributes xfam mr_td mr_config_id mr_owner".split(
    " ",
  ),
  ..."mr_owner_config rtmrs report_data tee_tcb_svn2 mr_service_td".split(" "),
];
const numbered = (words: string): string[] => words.split(" ");
const signedNames: Names = [
  "signature",
  "ecdsa_attestation_key",
  [
    "certification_data",
    "certificate_data_type",
    "size",
    [
      "qe_report_certification_data",
      [
        "qe_report",
        ...numbered("cpu_svn misc_select reserved1 attributes mr_enclave reserved2 mr_signer reserved3"),
        ...numbered("isv_prod_id isv_svn reserved4 report_data"),
      ],
      "qe_report_signature",
      ["qe_auth_data", "parsed_data_size", "data"],
      ["pck_certificate_chain_data", "certificate_data_type", "size", "pck_cert_chain"],
    ],
  ],
];
const quoteNames = (second: Names[number]): Names => [
  ["header", ...numbered("version attestation_key_type tee_type qe_svn pce_svn qe_vendor_id user_data")],
  second,
  "signed_data_size",
  ["signed_data", ...signedNames],
  "extra_bytes",
];
const v4Names = quoteNames(["td_quote_body", ...bodyNames]);
const v5Names = quoteNames([
  "td_quote_body_descriptor",
  "td_quote_body_type",
  "td_quote_body_size",
  ["td_quote_body_v5", ...bodyNames],
]);
const reportNames: Names = [
  ...numbered("version guest_svn policy family_id image_id vmpl signature_algo current_tcb platform_info"),
  ...numbered("signer_info report_data measurement host_data id_key_digest author_key_digest report_id"),
  ...numbered("report_id_ma reported_tcb chip_id committed_tcb current_build current_minor current_major"),
  ...numbered("committed_build committed_minor committed_major launch_tcb signature cpuid1eax_fms"),
  ...numbered("launch_mit_vector current_mit_vector"),
];
const snpNames: Names = [
  ["report", ...reportNames],
  ["certificate_chain", ...numbered("vcek_cert ask_cert ark_cert firmware_cert - vlek_cert extras")],
  ["product", "stepping_or_name"],
];
const tpmNames: Names = [
  ..."ak_pub quotes event_log instance_info canonical_event_log ak_cert intermediate_certs".split(" "),
  ["sev_snp_attestation", ...snpNames],
  ["tdx_attestation", ...v4Names],
];

/**
 * Bytes between quotation marks as Go's prototext spells them: characters stand as they are, controls and stray bytes
 * do not.
 */
function goText(bytes: Uint8Array): string {
  const named: Record<number, string> = { 10: "\\n", 13: "\\r", 9: "\\t", 34: '\\"', 92: "\\\\" };
  let out = "";
  for (let at = 0; at < bytes.length; ) {
    const size = [1, 2, 3, 4].find((n) => {
      const part = Buffer.from(bytes.subarray(at, at + n));
      return part.length === n && Buffer.from(part.toString("utf8")).equals(part);
    });
    const point =
      size &&
      Buffer.from(bytes.subarray(at, at + size))
        .toString("utf8")
        .codePointAt(0)!;
    if (point === undefined || point < 0x20 || point === 0x7f || named[point] !== undefined) {
      out += named[bytes[at]!] ?? `\\x${bytes[at]!.toString(16).padStart(2, "0")}`;
      at++;
    } else {
      out += point >= 0x80 && point < 0xa0 ? `\\u00${point.toString(16)}` : String.fromCodePoint(point);
      at += size!;
    }
  }
  return `"${out}"`;
}

/** A message of the wire format as text. */
function textOf(message: Buffer, names: Names, gap = " ", colon = ":"): string {
  const fields = [];
  let at = 0;
  const number = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = message[at++]!;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.length) {
    const tag = number();
    const entry = names[Number(tag >> 3n) - 1]!;
    const name = typeof entry === "string" ? entry : entry[0];
    const inner: Names = typeof entry === "string" ? [] : entry.slice(1);
    if ((tag & 7n) === 0n) {
      fields.push(`${name}:${gap}${number()}`);
      continue;
    }
    const size = Number(number());
    const value = message.subarray(at, (at += size));
    fields.push(
      inner.length === 0
        ? `${name}:${gap}${goText(value)}`
        : `${name}${colon}${gap}{${textOf(value, inner, gap, colon)}}`,
    );
  }
  return fields.join(gap === "" ? " " : gap === " " ? "  " : "\n");
}

const textNames: Record<string, Names> = {
  QuoteV4: v4Names,
  QuoteV5: v5Names,
  Report: reportNames,
  Attestation: snpNames,
  "go-tpm-tools'": tpmNames,
};
const texts = good.map(([name, message, expected]) => {
  const names = textNames[name.split(" ")[0]!]!;
  return [name, names, message, expected] as const;
});
const read = (text: string) => readOrError(new Uint8Array(Buffer.from(text)));

for (const [name, names, message, expected] of texts) {
  test(`${name}, as text: the same evidence in every spacing, and cut nowhere`, () => {
    const spellings = [
      textOf(message, names),
      textOf(message, names, ""),
      textOf(message, names, "\n  "),
      // Older versions wrote no colon before a message.
      textOf(message, names, " ", ""),
      `\n${textOf(message, names)}\r\n`,
    ];
    for (const text of spellings) deepEqual(read(text), plain(expected));
    const [text] = spellings as [string];
    for (let size = 0; size < text.length; size += text.length - size > 200 && size > 100 ? 97 : 1) {
      notDeepEqual(read(text.slice(0, size)), plain(expected), `${size} characters`);
    }
    equal(read(`${text} ${text}`), "evidence/malformed");
    equal(read(`${text}}`), "evidence/malformed");
  });

  test(`${name}, as text: any change is read or refused, by an error of ours`, () => {
    const text = Buffer.from(textOf(message, names));
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.nat(255), (at, value) => {
        const copy = Buffer.from(text);
        copy[at] = value;
        readOrError(copy);
      }),
    );
  });
}

const attestationText = textOf(encode(snp()), snpNames);
const changedText = (from: string | RegExp, to: string) => {
  const changed = attestationText.replace(from, () => to);
  ok(changed !== attestationText, String(from));
  return changed;
};
const deep = (depth: number) => `product:{${"a:{".repeat(depth)}${"}".repeat(depth)}}`;
for (const [name, text, code = "evidence/malformed"] of [
  ["a comment", `${attestationText} # nothing`],
  ["a list in brackets", changedText(/platform_info:\s*(\d+)/, "platform_info: [1]")],
  ["single quotes", changedText(/family_id:\s*"((?:[^"\\]|\\.)*)"/, "family_id: '0123456789abcdef'")],
  ["an octal escape", changedText(/family_id:\s*"/, 'family_id: "\\000')],
  ["half an escape", changedText(/family_id:\s*"/, 'family_id: "\\x0')],
  ["an escape of half a pair", changedText(/family_id:\s*"/, 'family_id: "\\ud800')],
  ["an escape beyond Unicode", changedText(/family_id:\s*"/, 'family_id: "\\U00110000')],
  ["a line that ends in a text", changedText(/family_id:\s*"/, 'family_id: "\n')],
  ["a number in hexadecimal", changedText(/policy:\s*\d+/, "policy: 0x30000")],
  ["a number with a zero before it", changedText(/policy:\s*/, "policy: 0")],
  ["a number of 65 bits", changedText(/policy:\s*\d+/, "policy: 18446744073709551616")],
  ["a negative number", changedText(/policy:\s*/, "policy: -")],
  ["a number for bytes", changedText(/family_id:\s*"(?:[^"\\]|\\.)*"/, "family_id: 0")],
  ["bytes for a number", changedText(/policy:\s*\d+/, 'policy: ""')],
  ["a message for bytes", changedText(/family_id:\s*"(?:[^"\\]|\\.)*"/, "family_id: {}")],
  ["a field without a value", changedText(/policy:\s*\d+/, "policy:")],
  ["an unknown field", changedText(/policy:/, "policies:"), "evidence/unsupported"],
  ["a field of everything's", changedText(/policy:/, "constructor:"), "evidence/unsupported"],
  ["a field twice", changedText(/policy:/, "policy: 1 policy:")],
  ["messages in messages", `${attestationText} ${deep(5000)}`],
  ["the body of another version", textOf(encode(quoteV4(v4)), v4Names).replace("version: 4", "version: 5")],
] as const) {
  test(`a protobuf's text with ${name}: ${code}`, () => equal(read(text), code));
}

test("a text of as many fields and pieces as there is room for is refused, and no crash", () => {
  const size = 2 << 20;
  for (const [begin, again, end] of [
    ['ak_pub:"\\x00\\x01" ', 'ak_cert:"" ', ""],
    ['ak_pub:"\\x00\\x01', "a\\x00", '"'],
    ["report:{version:3} certificate_chain:{", 'extras:{key:"a"} ', "}"],
    ["report:{version:3} product:{", "a:{", ""],
  ] as const) {
    const text = `${begin}${again.repeat(Math.floor((size - 200) / again.length))}${end}`;
    match(String(read(text)), /^evidence\//, again);
  }
});

test("what the guest thinks that it runs on is left out, whatever it is", () => {
  for (const more of [
    "name: SEV_PRODUCT_MILAN",
    "name:1 stepping:2 machine_stepping:{value:1}",
    "",
    deep(5),
  ]) {
    deepEqual(read(`${attestationText} product: {${more}}`), plain(snpEvidence), more);
  }
});
