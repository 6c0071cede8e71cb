// SPDX-License-Identifier: Apache-2.0
/** What a SEV-SNP report and the certificate of its key say, field by field, before anything is judged. */
import { toHex } from "@caisson/vocabulary/bytes";
import { VerifyError } from "../errors.ts";
import type { Description } from "../evidence/description.ts";
import { parseEndorsement } from "./certificates.ts";
import { readEndorsement } from "./endorsement.ts";
import { componentNames, type Product, productOf, readTcb, tcbComponents, tcbText } from "./products.ts";
import { hasBit, parseReport, platformBits, policyBits, type SnpReport, tcbKinds } from "./report.ts";

/** Describes a report and, where one came along, its certificate (DER). Throws VerifyError "snp/…" for what is not one. */
export function describeReport(bytes: Uint8Array, endorsement: Uint8Array | undefined): Description {
  const report = parseReport(bytes);
  const { certificate, product: certified } = describeCertificate(endorsement);
  const product = (report.cpu && productOf(report.cpu)) ?? certified;
  const warnings = [
    ...(hasBit(report.policy, policyBits.permits.debug)
      ? ["this guest may be DEBUGGED: its host can read and change everything in it"]
      : []),
    ...(report.strange === undefined ? [] : [report.strange.message]),
    ...(report.signingKey === "none" ? ["this report is not signed: it proves nothing"] : []),
  ];
  return {
    warnings,
    groups: {
      report: {
        version: `${report.version}`,
        TEE: "SEV-SNP",
        "signed by": report.signingKey.toUpperCase(),
        "report data": toHex(report.reportData),
        "report id": toHex(report.reportId),
        "migration agent": /^(?:ff)+$/.test(toHex(report.reportIdMa)) ? "none" : toHex(report.reportIdMa),
      },
      guest: {
        measurement: toHex(report.measurement),
        "host data": toHex(report.hostData),
        policy: policyText(report.policy),
        "privilege level": report.vmpl > 3 ? "none: its host asked" : `VMPL ${report.vmpl}`,
        "guest SVN": `${report.guestSvn}`,
        "family id": toHex(report.familyId),
        "image id": toHex(report.imageId),
        "ID key digest": toHex(report.idKeyDigest),
        "author key digest": report.authorKeyEnabled ? toHex(report.authorKeyDigest) : "no author key",
      },
      platform: {
        processor: processorText(report, product),
        "chip id": toHex(report.chipId),
        "platform info": flags(report.platformInfo, platformBits),
        "current firmware": report.currentFirmware,
        "committed firmware": report.committedFirmware,
        ...(report.mitigations && {
          "launch mitigations": `0x${report.mitigations.launch.toString(16)}`,
          "current mitigations": `0x${report.mitigations.current.toString(16)}`,
        }),
      },
      TCB: Object.fromEntries(tcbKinds.map((kind) => [kind, tcbLine(report.tcb[kind], product)])),
      certificate,
    },
  };
}

function flags(value: bigint, names: Readonly<Record<string, number>>): string {
  const set = Object.entries(names).flatMap(([name, bit]) => (hasBit(value, bit) ? [name] : []));
  return `0x${value.toString(16)}${set.length === 0 ? "" : ` (${set.join(", ")})`}`;
}

/** The policy's two low bytes are the least firmware ABI that the guest accepts. */
const policyText = (policy: bigint): string =>
  `${flags(policy, { ...policyBits.permits, ...policyBits.demands })}, firmware ABI at least ${(policy >> 8n) & 0xffn}.${policy & 0xffn}`;

function processorText({ cpu }: SnpReport, product: Product | undefined): string {
  if (cpu === undefined) {
    return product === undefined ? "not in a report of version 2" : `${product}, as the certificate says`;
  }
  const { family, model, stepping } = cpu;
  return `${product ?? "not known here"} (family ${family.toString(16)}, model ${model.toString(16)}, stepping ${stepping})`;
}

/** Raw bytes too: without a product nobody can say what they mean. */
function tcbLine(bytes: Uint8Array, product: Product | undefined): string {
  const tcb = product && readTcb(bytes, product);
  return tcb === undefined ? toHex(bytes) : `${toHex(bytes)} (${tcbText(tcb)})`;
}

/** A certificate that cannot be read is said so, for the report can be looked at all the same. */
function describeCertificate(encoding: Uint8Array | undefined): {
  certificate: Record<string, string>;
  product?: Product;
} {
  if (encoding === undefined) return { certificate: { "signing key": "none with the report" } };
  try {
    const certificate = parseEndorsement(encoding);
    const { product, productName, tcb, hardwareId, provider } = readEndorsement(certificate);
    const day = (ms: number) => new Date(ms).toISOString().slice(0, 10);
    return {
      product,
      certificate: {
        "signing key": `${certificate.commonName}, ${day(certificate.notBefore)} to ${day(certificate.notAfter)}`,
        product: productName,
        ...Object.fromEntries(
          tcbComponents.flatMap((name) =>
            tcb[name] === undefined ? [] : [[componentNames[name], `${tcb[name]}`]],
          ),
        ),
        ...(hardwareId && { "hardware id": toHex(hardwareId) }),
        ...(provider !== undefined && { provider }),
      },
    };
  } catch (error) {
    if (!(error instanceof VerifyError)) throw error;
    return { certificate: { "signing key": `cannot be read: ${error.message} [${error.code}]` } };
  }
}
