// SPDX-License-Identifier: Apache-2.0
/** The lines of a policy that pins what a SEV-SNP report shows. */
import { isZero, toHex } from "@caisson/vocabulary/bytes";
import { type Line, list } from "../policy/policy-lines.ts";
import type { GenuineSnp } from "./genuine.ts";
import { chipIdText, type Product, productOf, readTcb, tcbComponents } from "./products.ts";
import { hasBit, parseReport, platformBits, policyBits, type SnpReport } from "./report.ts";

/** `genuine` is what verification said of the report, where there was collateral. Throws VerifyError "snp/…". */
export function snpLines(bytes: Uint8Array, genuine: GenuineSnp | undefined): Line[] {
  const report = parseReport(bytes);
  if (report.strange !== undefined) throw report.strange;
  const product = genuine?.product ?? (report.cpu && productOf(report.cpu));
  const { debug: _, ...permits } = policyBits.permits;
  const set = (names: Readonly<Record<string, number>>) =>
    Object.entries(names).flatMap(([name, bit]) => (hasBit(report.policy, bit) ? [name] : []));
  return [
    ["snp:"],
    [
      `  measurements: ${list(toHex(report.measurement))}`,
      "exactly this firmware, and what it was launched with",
    ],
    [`  hostData: ${list(toHex(report.hostData))}`, "what the host bound at the launch; zero: nothing"],
    [`  privilegeLevels: [${report.vmpl}]`, "who in the guest asked: 0 is the most privileged"],
    [`  permits: ${list(...set(permits))}`, "what the guest's policy may permit its host"],
    [`  demands: ${list(...set(policyBits.demands))}`, "what the guest's policy must demand of its host"],
    ...idLines(report),
    ...platformLines(report, product),
    ...(genuine?.endorsement.provider === undefined
      ? []
      : ([
          [
            `  providers: ${list(genuine.endorsement.provider)}`,
            "whose key signs, where it is not the chip's own",
          ],
        ] satisfies Line[])),
  ];
}

/** An ID block that is not there is all zeros, and pinned as that. */
function idLines(report: SnpReport): Line[] {
  return [
    [
      `  idKeys: ${list(toHex(report.idKeyDigest))}`,
      "who signed the ID block (zero: there is none); instead of measurements: all that they sign",
    ],
    [`  authorKeys: ${list(toHex(report.authorKeyDigest))}`, "who vouches for that key"],
    [`  familyIds: ${list(toHex(report.familyId))}`, "and what the ID block calls the image"],
    [`  imageIds: ${list(toHex(report.imageId))}`],
    [`  minimumGuestSvn: ${report.guestSvn}`, "and its least version"],
  ];
}

function platformLines({ chipId, tcb, platformInfo }: SnpReport, product: Product | undefined): Line[] {
  const chip: Line = isZero(chipId)
    ? ["  chipIds: any", "the host masks the chip's id"]
    : [
        `  chipIds: ${list(product === undefined ? toHex(chipId) : chipIdText(chipId, product))}`,
        "this one chip; any: every chip that AMD vouches for",
      ];
  const on = Object.entries(platformBits).flatMap(([name, bit]) =>
    name !== "smt" && hasBit(platformInfo, bit) ? [name] : [],
  );
  const info: Line = [`  platformInfo: ${list(...on)}`, "what the platform has on, and must have"];
  const reported = product && readTcb(tcb.reported, product);
  if (product === undefined || reported === undefined) {
    return [
      chip,
      info,
      ["  minimumTcb: any", "the report says nothing of its processor, and levels mean nothing without"],
    ];
  }
  const levels = tcbComponents.flatMap((name) =>
    reported[name] === undefined ? [] : [`${name}: ${reported[name]}`],
  );
  return [
    chip,
    info,
    [
      `  products: [${product}]`,
      "of Milan the root secret of a chip can be taken by software: name its chips",
    ],
    [
      `  minimumTcb: { ${product}: { ${levels.join(", ")} } }`,
      "least levels of reported, committed and launch TCB; as reported here",
    ],
  ];
}
