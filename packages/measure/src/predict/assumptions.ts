// SPDX-License-Identifier: Apache-2.0
/**
 * What a prediction takes for granted because its inputs do not say it: an answer of its own, for whoever shows a
 * prediction. Everything that follows from files is computed,
 * what cannot be known is left open; what remains is usual for a machine and stands here, so that nobody has to guess
 * that it was guessed.
 */
import { ACPI_LOADER } from "../formats/acpi-tables.ts";
import { kernelVersion, measuresInitrd } from "../formats/kernel.ts";
import { parseUki } from "../formats/uki.ts";
import type { PredictInput } from "./prediction.ts";
import { firmwareProfile } from "./profiles.ts";

/** The first Linux whose EFI stub measures into a TD's registers, major × 100 + minor; some distributions carry it back. */
const CC_MEASUREMENT = 609;

/** In the order of the boot; each reads on from "assumed: ". Throws as `predict` does. */
export function assumptions(input: PredictInput): string[] {
  const { platform, boot, fwCfg, acpi, secureBoot } = input;
  const steps = firmwareProfile(input.firmwareRelease).steps[`${platform}-${boot.method}`] ?? [];
  const uki = boot.method === "uki" ? parseUki(boot.image) : undefined;
  const kernel = boot.method === "direct" ? boot.kernel : uki!.kernel;
  const initrd = boot.method === "direct" ? boot.initrd : uki!.initrd;
  const version = kernelVersion(kernel);
  const cases: [applies: boolean, text: string][] = [
    [
      fwCfg === undefined && steps.includes("fw-cfg"),
      boot.method === "direct"
        ? "fw_cfg holds a boot menu setting and a boot order as QEMU's -kernel alone makes them"
        : "fw_cfg holds a boot menu setting, and no device has a boot index",
    ],
    [
      secureBoot === undefined,
      "Secure Boot is on if keys are enrolled, and otherwise the firmware does not have it",
    ],
    [
      acpi !== undefined && acpi[ACPI_LOADER] === undefined,
      "the ACPI loader and RSDP are those that QEMU 10.0 to 11.1 writes for these tables",
    ],
    [
      uki !== undefined,
      "nothing lies beside the UKI (add-ons, credentials, extensions), and its boot entry passes it no options",
    ],
    [
      initrd !== undefined && initrd.length > 0 && !measuresInitrd(kernel),
      "the kernel loads and measures its initrd, although nothing in it says so",
    ],
    [
      platform === "tdx" && version !== undefined && version.number < CC_MEASUREMENT,
      `the kernel (${version?.text}) measures its command line in a TD, which before 6.9 only some do`,
    ],
  ];
  return cases.flatMap(([applies, text]) => (applies ? [text] : []));
}
