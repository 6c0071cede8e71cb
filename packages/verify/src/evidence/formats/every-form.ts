// SPDX-License-Identifier: Apache-2.0
/**
 * Every form in which evidence comes, those as well that need much to be read: for commands and the page, which meet
 * them all.
 */
import { channelVersion, readChannelDocument } from "../../channel.ts";
import { isDstackAttestation, readDstackAttestation, readDstackDocument } from "./dstack-attestation.ts";
import { binary, document, type Form, forms, readerOf } from "./forms.ts";
import { isProtobuf, readProtobuf } from "./protobuf.ts";
import { isProtobufText, readProtobufText } from "./protobuf-text.ts";
import { readTinfoil, tinfoilPredicate } from "./tinfoil.ts";

/** In the order in which they are asked. */
export const everyForm: readonly Form[] = [
  document(
    "a Tinfoil attestation document",
    `JSON with format: "${tinfoilPredicate}…"`,
    ({ format }) => typeof format === "string" && format.startsWith(tinfoilPredicate),
    readTinfoil,
  ),
  document(
    "evidence of a channel, as verify --save keeps it of an https address",
    `JSON with version: "${channelVersion}"`,
    ({ version }) => version === channelVersion,
    (value) => readChannelDocument(value).evidence,
  ),
  document(
    "a dstack attestation",
    "JSON with attestation (hexadecimal of its bytes)",
    (value) => typeof value.attestation === "string",
    readDstackDocument,
  ),
  binary(
    "a dstack attestation (binary, hexadecimal or base64)",
    "version 0, a kind of guest, 0 to 4, in a byte each, and a length; or a MessagePack map that begins with version",
    isDstackAttestation,
    readDstackAttestation,
  ),
  binary(
    "a quote or report in a protobuf of go-tdx-guest, go-sev-guest or go-tpm-tools",
    "its first field: a version and what follows it, a header, or a TPM's public key",
    isProtobuf,
    readProtobuf,
  ),
  binary(
    "a quote or report in the text of such a protobuf (textproto)",
    "its first fields, by name: header or report with a version in it, version and guest_svn or policy, or ak_pub",
    isProtobufText,
    readProtobufText,
  ),
  ...forms,
];

export const { readEvidence, isEvidence } = readerOf(everyForm);
