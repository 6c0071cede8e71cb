// SPDX-License-Identifier: Apache-2.0
/** Certificates in PEM (RFC 7468). */
import { fromBase64 } from "@caisson/vocabulary/bytes";
import { Recent } from "@caisson/vocabulary/recent";
import { VerifyError } from "../errors.ts";
import { type Certificate, parseCertificate } from "./x509.ts";

const pemBlock =
  /^-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=\r\n]+?)\r?\n?-----END CERTIFICATE-----(?:\r?\n)*/;

/**
 * P-256 certificates by what their PEM block contains. Those above the platforms come again with every verification, so that
 * reading them is remembered too; it would cost a fifth of what is not a signature check.
 */
const read = new Recent<Certificate>();

/**
 * Certificates of a PEM text (RFC 7468), leaf first, at most four. One NUL may end it, as in quotes.
 * @throws VerifyError "pem/malformed" for anything beside the blocks
 */
export function parsePemChain(pem: string): Certificate[] {
  return pemBlocks(pem.endsWith("\0") ? pem.slice(0, -1) : pem, (content, der) => {
    const known = read.get(content);
    if (known !== undefined) return known;
    const certificate = parseCertificate(der());
    read.set(content, certificate);
    return certificate;
  });
}

/** DER of the certificates of a PEM text, at most four. Throws VerifyError "pem/malformed". */
export const pemToDer = (pem: string): Uint8Array[] => pemBlocks(pem, (_, der) => der());

function pemBlocks<T>(pem: string, each: (content: string, der: () => Uint8Array) => T): T[] {
  const found: T[] = [];
  const malformed = () =>
    new VerifyError("pem/malformed", "a certificate chain is not a list of PEM certificates", {
      where: `after ${found.length} certificates`,
    });
  let rest = pem;
  while (rest !== "") {
    const block = found.length < 4 ? pemBlock.exec(rest) : null;
    const content = block?.[1];
    if (block === null || content === undefined) throw malformed();
    const der = () => {
      const bytes = fromBase64(content.replace(/[\r\n]+/g, ""));
      if (bytes === undefined) throw malformed();
      return bytes;
    };
    found.push(each(content, der));
    rest = rest.slice(block[0].length);
  }
  return found;
}
