/** Collateral: what Intel publishes about platforms, quoting enclaves and revocations, and how it is verified. */
import { type Infer, object, optional, text } from "./schema.ts";

const pem = text("a PEM certificate chain of at most 64 kB", /^\s*-----BEGIN CERTIFICATE-----/, 65536);
const derHex = text("hexadecimal DER of at most 1 MiB", /^(?:[0-9a-fA-F]{2})+$/, 2 << 20);
const signedJson = text("a JSON text of at most 1 MiB", /^\{/, 1 << 20);
const signature = text("a signature of 64 bytes in hexadecimal", /^[0-9a-fA-F]{128}$/, 128);

export const collateralSchema = object({
  pck_crl_issuer_chain: pem,
  root_ca_crl: derHex,
  pck_crl: derHex,
  tcb_info_issuer_chain: pem,
  tcb_info: signedJson,
  tcb_info_signature: signature,
  qe_identity_issuer_chain: pem,
  qe_identity: signedJson,
  qe_identity_signature: signature,
  /** PCK chain for quotes that carry none of their own (certification data of another type than 5): not used. */
  pck_certificate_chain: optional(pem),
});

/**
 * Collateral as PCCS clients write it: chains in PEM (leaf first), CRLs in hexadecimal DER, `tcb_info` and
 * `qe_identity` as the exact JSON text that Intel signed.
 */
export type Collateral = Infer<typeof collateralSchema>;
