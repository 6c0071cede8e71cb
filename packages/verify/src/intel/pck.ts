// SPDX-License-Identifier: Apache-2.0
/** The SGX extension of a PCK certificate: which platform, and which firmware levels, Intel certified. */
import { toHex } from "@caisson/vocabulary/bytes";
import { VerifyError } from "../errors.ts";
import { DerReader, tag } from "../pki/der.ts";
import type { Certificate } from "../pki/x509.ts";
import { sgxOids, sgxTcbOids } from "./oids.ts";

/** What the extension says. Hexadecimal values in lower case. */
export interface PckExtension {
  /** Platform provisioning id, 16 bytes. */
  ppid: string;
  /** Platform instance id, 16 bytes: another one after each registration. Only where the platform CA issued the certificate. */
  piid: string | undefined;
  /** SVNs of the 16 SGX TCB components. */
  sgxSvns: number[];
  pceSvn: number;
  /** 2 bytes. */
  pceId: string;
  /** 6 bytes: family, model, stepping, platform type, custom SKU. */
  fmspc: string;
}

/** Fields of the extension: five of every platform; two more (.6, .7) where the platform CA issued it. */
const FIELDS = [5, 7];
/** Bytes of octet strings. */
const SIZES = { ppid: 16, piid: 16, pceId: 2, fmspc: 6, cpuSvn: 16 } as const;

/** What was read of certificates, which are kept themselves while many quotes have them (x509.ts). */
const known = new WeakMap<Certificate, PckExtension>();

/** What a PCK certificate says of its platform; undefined where it has no SGX extension. Throws as `parsePckExtension`. */
export function pckExtension(certificate: Certificate): PckExtension | undefined {
  const content = certificate.extensions.get(sgxOids.extension);
  if (content === undefined) return undefined;
  const found = known.get(certificate) ?? parsePckExtension(content);
  known.set(certificate, found);
  return found;
}

/** Reads the extension's content. Throws VerifyError "pck/extension" or "der/malformed". */
export function parsePckExtension(value: Uint8Array): PckExtension {
  const outer = new DerReader(value);
  const fields = readFields(outer.enter(tag.sequence), FIELDS);
  outer.end();
  const tcb = readFields(take(fields, sgxOids.tcb).enter(tag.sequence), [sgxTcbOids.length]);
  // Read to be well-formed only: the kind of platform, and the CPU SVN that the components stand for.
  take(fields, sgxOids.type).number(0xff, tag.enumerated);
  takeOctets(tcb, sgxTcbOids[17]!, SIZES.cpuSvn);
  return {
    ppid: takeOctets(fields, sgxOids.ppid, SIZES.ppid),
    piid: fields.has(sgxOids.piid) ? takeOctets(fields, sgxOids.piid, SIZES.piid) : undefined,
    sgxSvns: sgxTcbOids.slice(0, 16).map((oid) => take(tcb, oid).number(0xff)),
    pceSvn: take(tcb, sgxTcbOids[16]!).number(0xffff),
    pceId: takeOctets(fields, sgxOids.pceId, SIZES.pceId),
    fmspc: takeOctets(fields, sgxOids.fmspc, SIZES.fmspc),
  };
}

/** Fields by OID: pairs of OID and value, each OID once. A reader stands before the value of its field. */
type FieldReaders = ReadonlyMap<string, DerReader>;

function readFields(sequence: DerReader, sizes: readonly number[]): FieldReaders {
  const fields = new Map<string, DerReader>();
  while (sequence.more) {
    const pair = sequence.enter(tag.sequence);
    const oid = pair.oid();
    const value = pair.any();
    pair.end();
    if (fields.has(oid)) throw new VerifyError("pck/extension", "a field of the SGX extension occurs twice");
    fields.set(oid, value.reader());
  }
  if (!sizes.includes(fields.size)) {
    throw new VerifyError("pck/extension", "the SGX extension has another number of fields", {
      expected: sizes.join(" or "),
      actual: `${fields.size}`,
    });
  }
  return fields;
}

function take(fields: FieldReaders, oid: string): DerReader {
  const field = fields.get(oid);
  if (field === undefined) {
    throw new VerifyError("pck/extension", "the SGX extension lacks a field", { expected: oid });
  }
  return field;
}

function takeOctets(fields: FieldReaders, oid: string, size: number): string {
  const content = take(fields, oid).content(tag.octetString);
  if (content.length !== size) {
    throw new VerifyError("pck/extension", "a field of the SGX extension has another size", {
      where: oid,
      expected: `${size} bytes`,
      actual: `${content.length} bytes`,
    });
  }
  return toHex(content);
}
