// SPDX-License-Identifier: Apache-2.0
/** Firmware (decision D2) and what it hands to the kernel. */

import { NotApplicable } from "../control.ts";
import { covered, image, kernel, live, reasonsForNoCheck, refused, verified, without } from "../expect.ts";
import type { ImageFacts } from "../facts.ts";
import { group } from "./group.ts";

const generic = "the emulated platform boots a generic OVMF: there is no TDX that could start a TDVF";

/** A statement about the modules in the firmware; it does not hold where they cannot be listed. */
function noModule(expects: string, pattern: RegExp, example: string) {
  return image(
    expects,
    ({ firmware }: ImageFacts) => {
      if (firmware.modules === undefined)
        return `modules that cannot be listed: ${firmware.unlisted ?? "no reason given"}`;
      const found = firmware.modules.filter(({ name }) => pattern.test(name ?? "")).map(({ name }) => name);
      return found.length === 0 ? undefined : found.slice(0, 5).join(", ");
    },
    ({ firmware }) =>
      firmware.modules?.push({
        guid: "00000000-0000-0000-0000-000000000000",
        name: example,
        type: "driver",
        size: 1,
      }),
  );
}

const section = (type: string) =>
  image(
    `a ${type} section`,
    ({ firmware }) =>
      firmware.sections.some((one) => one.type === type)
        ? undefined
        : firmware.sections.map((one) => one.type).join(", ") || "no TDX metadata",
    ({ firmware }) => {
      firmware.sections = firmware.sections.filter((one) => one.type !== type);
    },
  );

export const firmware = group("firmware", { decision: "D2", source: "edk2" }, [
  {
    id: "F01",
    title: "Firmware made for TDX, without a variable store that the host keeps",
    why: "A TDVF carries the metadata by which the TDX module measures it; its variables live in private memory.",
    source: "zksecurity",
    development: { reason: generic, kinds: ["static"] },
    static: [section("BFV"), section("CFV"), section("TD_HOB"), section("TempMem")],
    live: reasonsForNoCheck.firmwareGone,
    remote: [covered("mrtd", "MEM.PAGE.ADD and MR.EXTEND of the firmware's pages")],
  },
  {
    id: "F02",
    title: "No UEFI shell",
    why: "It would run scripts from any disk of the host's.",
    development: { reason: generic, kinds: ["static"] },
    static: [noModule("no shell", /^(Shell|tftpDynamicCommand|httpDynamicCommand)/i, "Shell")],
    live: reasonsForNoCheck.firmwareGone,
    remote: [covered("mrtd", "the firmware volume")],
  },
  {
    id: "F03",
    title: "No network boot",
    why: "A path to other code, and the largest parser that firmware has.",
    development: { reason: generic, kinds: ["static"] },
    static: [
      noModule(
        "no network boot",
        /^(HttpBootDxe|UefiPxeBcDxe|TlsDxe|IScsiDxe|HttpDxe|Mtftp4Dxe)$/,
        "HttpBootDxe",
      ),
    ],
    live: reasonsForNoCheck.firmwareGone,
    remote: [covered("mrtd", "the firmware volume")],
  },
  {
    id: "F04",
    decision: "depth",
    title: "A DSDT of our own in the kernel",
    why: "It would replace whatever table the host sends. Here RTMR0 pins the tables instead (F08).",
    severity: "recommended",
    source: "badaml",
    static: [
      image(
        "CONFIG_ACPI_CUSTOM_DSDT_FILE names a file",
        ({ kernel: { config } }) =>
          /^".+"$/.test(config.get("ACPI_CUSTOM_DSDT_FILE") ?? "") ? undefined : "none",
        (copy) => {
          (copy.kernel.config as Map<string, string>).set("ACPI_CUSTOM_DSDT_FILE", '""');
        },
      ),
    ],
    live: "the running kernel's configuration shows the same; the kernel log is not in the report",
    remote: [covered("rtmr1", "the kernel's EFI_BOOT_SERVICES_APPLICATION event")],
  },
  {
    id: "F05",
    decision: "depth",
    title: "No ACPI byte code but the first table's",
    why: "Nothing loads secondary tables, at boot or later, and no initrd can override one.",
    source: "badaml",
    static: [
      image(
        "acpi_no_static_ssdt on the command line",
        ({ commandLine }) => (commandLine.includes("acpi_no_static_ssdt") ? undefined : "missing"),
        (copy) => {
          copy.commandLine = copy.commandLine.filter((token) => token !== "acpi_no_static_ssdt");
        },
      ),
      ...without("ACPI_TABLE_UPGRADE", "ACPI_CONFIGFS", "EFI_CUSTOM_SSDT_OVERLAYS", "BLK_DEV_INITRD").static,
    ],
    live: [refused("open /sys/kernel/config/acpi", "ENOENT")],
    remote: [covered("rtmr2", "the LOADED_IMAGE::LoadOptions event")],
  },
  {
    id: "F07",
    decision: "depth",
    title: "No consumer for exotic ACPI tables",
    why: "What nobody parses cannot be malformed.",
    source: "intel",
    ...without(
      "ACPI_APEI",
      "ACPI_VIDEO",
      "ACPI_BGRT",
      "ACPI_SPCR_TABLE",
      "ACPI_FPDT",
      "ACPI_TABLE_LIB",
      "ACPI_NFIT",
      "ACPI_HMAT",
    ),
  },
  {
    id: "F08",
    title: "ACPI tables and machine shape are pinned",
    why: "RTMR0 floating silently is how AML attacks go unseen.",
    source: "badaml",
    tests: ["packages/measure/src/predict/predict.test.ts"],
    static: "the reference is predicted from the machine's shape, which is not part of the image",
    live: reasonsForNoCheck.firmwareGone,
    remote: [covered("rtmr0", "the ACPI DATA, TD HOB and variable events")],
  },
  {
    id: "F09",
    title: "Event logs are replayed, never believed",
    why: "A log is memory; only registers are evidence.",
    source: "dstack",
    decision: "remote",
    tests: ["packages/measure/src/logs/event-log.test.ts"],
    static: reasonsForNoCheck.verifier,
    live: "the guest exports its log; only the verifier judges it",
    remote: [verified("events/boot-log", "the boot log replays to the registers")],
  },
  {
    id: "F10",
    title: "The kernel measures its own command line",
    why: "The EFI stub extends the confidential-computing protocol since 6.9; the deprecated entry that skips it is out.",
    source: "linux",
    decision: "D1",
    ...kernel({ EFI: "y", EFI_STUB: "y", EFI_HANDOVER_PROTOCOL: "n" }),
  },
  {
    id: "F11",
    title: "The firmware's code is what MRTD measures",
    why: "A boot volume that is added but not measured would be the host's to change.",
    source: "intel",
    development: { reason: generic, kinds: ["static"] },
    static: [
      image(
        "every BFV section is extended into MRTD",
        ({ firmware }) => {
          const volumes = firmware.sections.filter(({ type }) => type === "BFV");
          return volumes.length > 0 && volumes.every(({ measured }) => measured)
            ? undefined
            : "one is not, or there is none";
        },
        ({ firmware }) => {
          for (const one of firmware.sections) if (one.type === "BFV") one.measured = false;
        },
      ),
    ],
    live: reasonsForNoCheck.firmwareGone,
    remote: [covered("mrtd", "MR.EXTEND of the boot firmware volume")],
  },
  {
    id: "F12",
    title: "The firmware in the image is the one that the manifest names",
    why: "MRTD is predicted from these bytes.",
    source: "design",
    static: [
      image(
        "its hash is the manifest's",
        ({ build }) => build.changed.find((name) => /firmware|ovmf|\.fd$/i.test(name)),
        (copy) => {
          copy.build.changed = [...copy.build.changed, "firmware.fd"];
        },
      ),
    ],
    live: reasonsForNoCheck.firmwareGone,
    remote: [covered("mrtd", "the firmware's pages")],
  },
  {
    id: "F13",
    title: "No legacy boot, no system management mode",
    why: "Old boot paths and a mode above the kernel have no use in a TD.",
    development: { reason: generic, kinds: ["static"] },
    static: [
      noModule(
        "no legacy BIOS support and no SMM core",
        /^(LegacyBiosDxe|CsmVideoDxe|PiSmmCore|PiSmmIpl|PiSmmCpuDxeSmm|StandaloneMmCore)$/,
        "PiSmmCore",
      ),
    ],
    live: [
      live(
        "the kernel found no legacy BIOS structures to read",
        ({ probes }) => {
          const probe = probes["open /sys/firmware/dmi"];
          if (probe === undefined || "skipped" in probe) return new NotApplicable("not tried");
          return "errno" in probe ? undefined : "SMBIOS tables are shown";
        },
        ({ probes }) => {
          probes["open /sys/firmware/dmi"] = { succeeded: true };
        },
      ),
    ],
    remote: [covered("mrtd", "the firmware volume")],
  },
]);
