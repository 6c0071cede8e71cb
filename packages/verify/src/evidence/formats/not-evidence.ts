// SPDX-License-Identifier: Apache-2.0
/**
 * What people hold in place of evidence, or beside it: tokens, parsed quotes, parts of evidence, what vouches for it. Each is
 * called by its name, with what to do, in place of "this is not evidence". For commands; nothing here is judged.
 */
import { fromUtf8, toHex } from "@caisson/vocabulary/bytes";
import { amdTableGuids } from "../../amd/certificate-table.ts";
import { type Decoded, decode } from "./forms.ts";

/** One such thing; `is` gets the input decoded as evidence is, and as text. */
interface Neighbour {
  readonly what: string;
  readonly fix: string;
  readonly is: (input: {
    bytes: Uint8Array;
    document: Readonly<Record<string, unknown>>;
    text: string;
  }) => boolean;
}

const starts = (bytes: Uint8Array, hex: string, at = 0) =>
  toHex(bytes.subarray(at, at + hex.length / 2)) === hex;
const has = (document: object, ...fields: string[]) =>
  fields.every((field) => Object.hasOwn(document, field));

const asBytes =
  "take the quote's or report's own bytes: configfs-tsm's outblob, or go-tdx-guest's and go-sev-guest's attest -outform bin (or proto)";
const beside = "it goes beside evidence: caisson verify EVIDENCE --collateral FILE";

/** DER of two SEQUENCEs, one in the other, whose content begins with `inner`. */
const derOf = (bytes: Uint8Array, inner: string) =>
  new RegExp(`^(?:30(?:81..|82....)){2}${inner}`).test(toHex(bytes.subarray(0, 12)));

/** In the order in which they are asked. */
const neighbours: readonly Neighbour[] = [
  {
    what: "a token of an attestation service (a JWT, as Azure's, Intel's or Google's writes them)",
    fix: "a token says what its issuer found; ask the guest for the evidence itself",
    is: ({ text }) => /^ey[\w-]+\.[\w-]+\.[\w-]*$/.test(text),
  },
  {
    what: "a quote or report taken apart, in the JSON of a protobuf or a text of it that begins like none of go-tdx-guest's, go-sev-guest's and go-tpm-tools'",
    fix: asBytes,
    is: ({ text, document }) =>
      /^(?:header|td_quote_body|signed_data|report|ak_pub|tee_attestation|(?:tdx|sev_snp)_attestation)\s*:?\s*[{<"]/m.test(
        text,
      ) ||
      has(document, "tdQuoteBody") ||
      has(document, "akPub"),
  },
  {
    what: "a TDREPORT, which only its own machine can check",
    fix: `have it quoted: ${asBytes}`,
    is: ({ bytes }) => bytes.length === 1024 && bytes[0] === 0x81,
  },
  {
    what: "a TPM's quote by itself",
    fix: "evidence of Azure needs the HCL report with it: docs/verification.md",
    is: ({ bytes, document }) => starts(bytes, "ff544347") || has(document, "signature", "message", "pcrs"),
  },
  {
    what: "the ACPI table CCEL, which says where the log lies",
    fix: "read the log: /sys/firmware/acpi/tables/data/CCEL",
    is: ({ bytes }) => starts(bytes, "4343454c"),
  },
  {
    what: "an event log",
    fix: "it goes beside evidence: caisson verify EVIDENCE --event-log FILE; caisson inspect shows what it says",
    // The name of its first event's data (TCG PC Client Platform Firmware Profile, TCG_EfiSpecIDEvent).
    is: ({ bytes }) => starts(bytes, "53706563204944204576656e74303300", 32),
  },
  {
    what: "AMD's table of certificates (auxblob)",
    fix: "put it behind its report: cat outblob auxblob > evidence",
    is: ({ bytes }) => amdTableGuids.some((guid) => starts(bytes, guid)),
  },
  {
    what: "a list of revocations",
    fix: beside,
    is: ({ bytes, text }) => text.startsWith("-----BEGIN X509 CRL") || derOf(bytes, "02010130"),
  },
  {
    what: "a certificate",
    fix: "it vouches for evidence; caisson collateral fetch EVIDENCE gets those that are needed",
    is: ({ bytes, text }) => text.startsWith("-----BEGIN CERTIFICATE") || derOf(bytes, "a0030201"),
  },
  {
    what: "collateral",
    fix: beside,
    is: ({ document: { version, ...document } }) =>
      ["tcbInfo", "enclaveIdentity", "tcb_info", "pck_crl", "qe_identity"].some((field) =>
        has(document, field),
      ) || version === "caisson/amd-collateral/v1",
  },
  {
    what: "a document of Caisson's that evidence is judged by",
    fix: "caisson verify EVIDENCE takes it: --policy, --image, --kit",
    is: ({ document: { version }, text }) =>
      (typeof version === "string" && version.startsWith("caisson/")) ||
      /^version: ["']?caisson\//m.test(text),
  },
  {
    what: "a token of Arm's CCA, which is not judged here",
    fix: "Caisson judges Intel's, AMD's and AWS's evidence",
    is: ({ bytes }) => starts(bytes, "d9018f"),
  },
  {
    what: "a compressed file",
    fix: "decompress it first",
    is: ({ bytes }) => ["1f8b", "28b52ffd", "fd377a58", "504b0304"].some((magic) => starts(bytes, magic)),
  },
  {
    what: "JSON in base64 or hexadecimal",
    fix: "decode it first: base64 --decode, or xxd -r -p",
    is: ({ bytes, text }) => bytes[0] === 0x7b && !text.startsWith("{"),
  },
  {
    what: "a text with a quote in it, but not JSON",
    fix: 'give the quote\'s bytes, their hexadecimal or base64 text, or JSON: {"quote": "…"}',
    is: ({ text }) => /^\s*["']?quote["']?\s*[:=]/m.test(text),
  },
];

/** What an input is that is not evidence, and what to do; undefined where nobody can say. */
export function notEvidence(input: Uint8Array): { what: string; fix: string } | undefined {
  const text = fromUtf8(input.subarray(0, 1 << 16)).trim();
  let decoded: Decoded;
  try {
    decoded = decode(input);
  } catch {
    // What begins as JSON does and is none may be protobuf's text.
    decoded = { bytes: input };
  }
  const { bytes = new Uint8Array(), document = {} } = decoded as { bytes?: Uint8Array; document?: object };
  return neighbours.find(({ is }) =>
    is({ bytes, document: document as Readonly<Record<string, unknown>>, text }),
  );
}
