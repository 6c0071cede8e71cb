// SPDX-License-Identifier: Apache-2.0
/**
 * Firmware images side by side (decision D2): what they consist of, what they can boot, and how much of them a host can
 * talk to. Pure: from facts to rows, and to a picture of what takes the space.
 */
import type { FirmwareFacts, FirmwareModule } from "./firmware.ts";
import { escapeHtml } from "./page.ts";

/** Classes of modules, by name; the first that matches counts. What no class claims is "core". */
const classes = [
  ["shell", /^(Shell|.*Dynamic(Shell)?Command|UiApp|BootManagerMenuApp)$/i],
  [
    "network",
    /^(Snp|Mnp|Arp|Ip4|Ip6|Udp4|Udp6|Tcp|Dhcp4|Dhcp6|Mtftp4|Mtftp6|Dns|Dpc|VlanConfig|HttpBoot|HttpUtilities|Http|Tls|TlsAuthConfig|UefiPxeBc|IScsi|VirtioNet)(Dxe)?$/,
  ],
  ["system management", /(Smm|StandaloneMm|PiSmm|Wsmt)/],
  ["usb and input", /(Usb|Uhci|Ehci|Xhci|Ps2|Keyboard|Mouse|VirtioInput)/],
  [
    "display and console",
    /(Graphics|Console|Terminal|ConPlatform|ConSplitter|Display|Ramfb|QemuVideo|VirtioGpu|Logo|Hii|Setup|Serial|English)/,
  ],
  ["storage", /(Blk|Scsi|Ata|Sata|Nvm|Disk|SdMmc|SdDxe|Emmc|Cxl|PvScsi|Mpt)/],
  ["file systems", /(Fat|Udf|Ext4|VirtioFs|Partition|RamDisk|QemuKernelLoaderFs)/],
  ["host tables", /(Acpi|Smbios|FwCfg|S3|BootScript|Xen|Csm|Legacy)/],
  ["measurement", /(Tcg|Tpm|TdTcg2|Hash2)/i],
  ["secure boot and variables", /(SecureBoot|Variable|Fvb|FaultTolerant|Crypto|SecurityStub)/],
  ["buses", /(Pci|Virtio|Sio|IoMmu)/],
] as const;

export type ModuleClass = (typeof classes)[number][0] | "core";

export function classOf({ name = "" }: FirmwareModule): ModuleClass {
  return classes.find(([, pattern]) => pattern.test(name))?.[0] ?? "core";
}

/** Classes whose code reads what the host writes. */
const facing: readonly ModuleClass[] = [
  "network",
  "usb and input",
  "storage",
  "file systems",
  "host tables",
  "buses",
  "display and console",
];

export interface Comparison {
  name: string;
  facts: FirmwareFacts;
  mrtd?: { singlePass: string; twoPass: string };
  /** Modules and unpacked bytes by class; undefined where modules cannot be listed. */
  classes?: Record<ModuleClass, { modules: number; bytes: number }>;
  /** Answers to what one asks first. "unknown" where modules cannot be listed. */
  traits: Record<string, string>;
}

/** One firmware's row. */
export function describe(name: string, facts: FirmwareFacts, registers: Comparison["mrtd"]): Comparison {
  const common = { name, facts, ...(registers !== undefined && { mrtd: registers }) };
  if (facts.modules === undefined)
    return { ...common, traits: { modules: `unknown: ${facts.unlisted ?? ""}` } };
  const names = new Set(facts.modules.map((module) => module.name ?? ""));
  const has = (...wanted: string[]) => wanted.some((one) => names.has(one));
  const byClass = Object.fromEntries(
    ([...classes.map(([one]) => one), "core"] as ModuleClass[]).map((one) => {
      const members = facts.modules!.filter((module) => classOf(module) === one);
      return [one, { modules: members.length, bytes: members.reduce((sum, { size }) => sum + size, 0) }];
    }),
  ) as Record<ModuleClass, { modules: number; bytes: number }>;
  const total = (wanted: readonly ModuleClass[]) => {
    const rows = wanted.map((one) => byClass[one]);
    return `${rows.reduce((sum, { modules }) => sum + modules, 0)} modules, ${kib(rows.reduce((sum, { bytes }) => sum + bytes, 0))}`;
  };
  const yes = (value: boolean) => (value ? "yes" : "no");
  const boots = [
    has("QemuKernelLoaderFsDxe") && "kernel from QEMU",
    has("PartitionDxe") && has("Fat") && "UKI on a disk",
    has("HttpBootDxe", "UefiPxeBcDxe") && "network",
    has("VirtioFsDxe") && "virtio-fs",
  ].filter((one) => one !== false);
  return {
    ...common,
    classes: byClass,
    traits: {
      modules: total(Object.keys(byClass) as ModuleClass[]),
      "faces the host": total(facing),
      boots: boots.join(", ") || "nothing",
      shell: yes(has("Shell")),
      "network stack": yes(byClass.network.modules > 0),
      "system management mode": yes(has("PiSmmCore", "StandaloneMmCore")),
      "legacy BIOS": yes(has("LegacyBiosDxe", "CsmVideoDxe")),
      "Secure Boot": has("SecureBootConfigDxe")
        ? `built in, keys: ${facts.secureBootKeys.join(", ") || "none enrolled"}`
        : "no",
      "measured boot":
        [has("TdTcg2Dxe") && "TDX registers", has("Tcg2Dxe") && "TPM 2.0", has("TcgDxe") && "TPM 1.2"]
          .filter(Boolean)
          .join(", ") || "no",
    },
  };
}

const kib = (bytes: number): string => `${Math.round(bytes / 1024)} KiB`;

/** The table, one column a firmware, one row a question. */
export function comparisonTable(rows: readonly Comparison[]): string {
  const lines: [label: string, values: string[]][] = [
    ["size", rows.map(({ facts }) => kib(facts.size))],
    ["sha256", rows.map(({ facts }) => `${facts.sha256.slice(0, 16)}…`)],
    ["TDX metadata", rows.map(({ facts }) => facts.form ?? "none")],
    [
      "sections",
      rows.map(
        ({ facts }) =>
          facts.sections.map(({ type, measured }) => (measured ? `${type}*` : type)).join(" ") || "-",
      ),
    ],
    [
      "MRTD, single pass",
      rows.map(({ mrtd }) => (mrtd === undefined ? "-" : `${mrtd.singlePass.slice(0, 16)}…`)),
    ],
    [
      "MRTD, two passes",
      rows.map(({ mrtd }) => (mrtd === undefined ? "-" : `${mrtd.twoPass.slice(0, 16)}…`)),
    ],
  ];
  const labels = [...new Set(rows.flatMap(({ traits }) => Object.keys(traits)))];
  for (const label of labels) lines.push([label, rows.map(({ traits }) => traits[label] ?? "unknown")]);
  for (const [one] of [...classes, ["core"] as const]) {
    lines.push([
      `  ${one}`,
      rows.map((row) =>
        row.classes === undefined ? "-" : `${row.classes[one].modules}, ${kib(row.classes[one].bytes)}`,
      ),
    ]);
  }
  const all: [string, string[]][] = [["", rows.map(({ name }) => name)], ...lines];
  const widths = [0, ...rows.map(() => 0)].map((_, column) =>
    Math.max(...all.map(([label, values]) => (column === 0 ? label : values[column - 1]!).length)),
  );
  return all
    .map(([label, values]) =>
      [label, ...values]
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n")
    .concat("\n\n* measured into MRTD\n");
}

/** Colours that are told apart, and carry white text; one a class. */
const colours = [
  "#8250df",
  "#cf222e",
  "#bf3989",
  "#9a6700",
  "#4d2d00",
  "#116329",
  "#3f8f50",
  "#0550ae",
  "#218bff",
  "#424a53",
  "#bc4c00",
  "#7d8590",
];

/** A picture of what takes the space: one bar a firmware, one piece a class, in proportion to unpacked bytes. */
export function comparisonSvg(rows: readonly Comparison[]): string {
  const listed = rows.filter((row) => row.classes !== undefined);
  const names = [...classes.map(([one]) => one), "core"] as ModuleClass[];
  const bytesOf = (row: Comparison) => names.reduce((sum, one) => sum + row.classes![one].bytes, 0);
  const most = Math.max(1, ...listed.map(bytesOf));
  const [left, width, height] = [20, 760, 34];
  const bars = listed.map((row, i) => {
    let x = left;
    const y = 40 + i * (height + 30);
    const pieces = names.map((one, colour) => {
      const size = (row.classes![one].bytes / most) * width;
      const title = `${one}: ${row.classes![one].modules} modules, ${kib(row.classes![one].bytes)}`;
      const label =
        size > one.length * 7 + 12
          ? `<text x="${(x + 6).toFixed(1)}" y="${y + 21}" fill="#ffffff">${escapeHtml(one)}</text>`
          : "";
      const piece = `<g><title>${escapeHtml(title)}</title><rect x="${x.toFixed(1)}" y="${y}" width="${size.toFixed(1)}" height="${height}" fill="${colours[colour]}"/>${label}</g>`;
      x += size;
      return piece;
    });
    const label = `${row.name}: ${row.facts.modules!.length} modules, ${kib(bytesOf(row))}`;
    return `<text x="${left}" y="${y - 6}">${escapeHtml(label)}</text>${pieces.join("")}`;
  });
  const unlisted = rows.filter((row) => row.classes === undefined);
  const listedBottom = 40 + listed.length * (height + 30);
  const remarks = unlisted.map(({ name, facts }, i) => {
    const remark = `${name}: modules unknown, ${facts.unlisted ?? "no reason given"}`;
    return `<text x="${left}" y="${listedBottom + i * 22}">${escapeHtml(remark)}</text>`;
  });
  const legendTop = listedBottom + unlisted.length * 22 + 10;
  const legend = names.map((one, i) => {
    const [x, y] = [left + (i % 4) * 195, legendTop + Math.floor(i / 4) * 22];
    return `<rect x="${x}" y="${y}" width="12" height="12" fill="${colours[i]}"/><text x="${x + 18}" y="${y + 11}">${escapeHtml(one)}</text>`;
  });
  const bottom = legendTop + Math.ceil(names.length / 4) * 22 + 10;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 ${bottom}" font-family="system-ui, sans-serif" font-size="13" fill="#1f2328">`,
    `<rect width="800" height="${bottom}" fill="#ffffff"/>`,
    ...bars,
    ...remarks,
    ...legend,
    "</svg>\n",
  ].join("\n");
}
