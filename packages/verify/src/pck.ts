/** The SGX extension of a PCK certificate: which platform, and which firmware levels, Intel certified. */
import { toHex } from "./bytes.ts";
import { DerReader, tag } from "./der.ts";
import { VerifyError } from "./errors.ts";

/** OIDs below 1.2.840.113741.1.13.1 (SGX PCK Certificate and CRL Profile, section 1.3.5). */
const root = "1.2.840.113741.1.13.1";

/** What the extension says. Hexadecimal values in lower case. */
export interface PckExtension {
  /** Platform provisioning id, 16 bytes. */
  ppid: string;
  /** SVNs of the 16 SGX TCB components. */
  sgxSvns: number[];
  pceSvn: number;
  /** 2 bytes. */
  pceId: string;
  /** 6 bytes: family, model, stepping, platform type, custom SKU. */
  fmspc: string;
}

/** Reads the extension's content. Throws VerifyError "pck/extension" or "der/malformed". */
export function parsePckExtension(value: Uint8Array): PckExtension {
  const outer = new DerReader(value);
  const fields = readFields(outer.enter(tag.sequence));
  outer.end();
  const take = (id: number): DerReader => {
    const field = fields.get(`${root}.${id}`);
    if (field === undefined) throw new VerifyError("pck/extension", `the SGX extension has no field .${id}`);
    return field;
  };
  const octets = (id: number, size: number): string => {
    const { content } = take(id).read(tag.octetString);
    if (content.length !== size) {
      throw new VerifyError("pck/extension", `field .${id} of the SGX extension has another size`, {
        expected: `${size} bytes`,
        actual: `${content.length} bytes`,
      });
    }
    return toHex(content);
  };

  const tcb = readFields(take(2).enter(tag.sequence));
  const svn = (id: number): number => {
    const field = tcb.get(`${root}.2.${id}`);
    if (field === undefined)
      throw new VerifyError("pck/extension", `the SGX extension has no TCB field .2.${id}`);
    return field.number(0xffff);
  };
  return {
    ppid: octets(1, 16),
    sgxSvns: Array.from({ length: 16 }, (_, i) => svn(i + 1)),
    pceSvn: svn(17),
    pceId: octets(3, 2),
    fmspc: octets(4, 6),
  };
}

/** Pairs of OID and value; each OID once. */
function readFields(sequence: DerReader): Map<string, DerReader> {
  const fields = new Map<string, DerReader>();
  while (sequence.more) {
    const pair = sequence.enter(tag.sequence);
    const oid = pair.oid();
    const value = pair.any();
    pair.end();
    if (fields.has(oid)) throw new VerifyError("pck/extension", "a field of the SGX extension occurs twice");
    fields.set(oid, new DerReader(value.encoding));
  }
  return fields;
}
