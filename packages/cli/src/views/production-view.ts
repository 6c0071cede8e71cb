// SPDX-License-Identifier: Apache-2.0
/** What a person is told of a production machine: what its host lacks, what was written for whom, how it is started. */
import type { Prerequisite } from "@caisson/host/tdx";
import type { Production } from "@caisson/machine/production";
import { shellWord } from "./shell-word.ts";

/** What the host has and lacks. */
export function renderPrerequisites(prerequisites: readonly Prerequisite[]): string {
  const lines = prerequisites.flatMap(({ name, ok, found, fix }) => [
    `${ok ? "✔" : "✘"} ${name.padEnd(16)} ${found}`,
    ...(ok ? [] : [`${" ".repeat(18)} → ${fix}`]),
  ]);
  const missing = prerequisites.filter(({ ok }) => !ok).map(({ name }) => name);
  const verdict =
    missing.length === 0
      ? "This host has what a trust domain needs, if a quoting service listens."
      : `This host cannot start a trust domain (${missing.join(", ")}). The image is built for one that can.`;
  return `${[...lines, "", verdict].join("\n")}\n`;
}

/** QEMU's command, an option a line. */
export function renderCommand(launch: Pick<Production, "arguments">): string {
  const command = ["qemu-system-x86_64"];
  for (const argument of launch.arguments) {
    if (/^-[a-z]/.test(argument)) command.push(`  ${argument}`);
    else command.push(`${command.pop()!} ${shellWord(argument)}`);
  }
  return command.join(" \\\n");
}

/** What was written, for whom, and the command. */
export function renderProduction(image: string, production: Production): string {
  const { mrConfigId, policy, references, kmsPolicies, open, missing, domain, collateralUntil } = production;
  const lines = [
    `image          ${image}`,
    `MRCONFIGID     ${mrConfigId.slice(0, 48)}`,
    `               ${mrConfigId.slice(48)}`,
    `relying party  ${policy}`,
    `               ${references}`,
    `KMS            ${kmsPolicies ?? "none: --kms URL --kms-identity HEX names one"}`,
    `collateral     ${collateralUntil === undefined ? "none: --collateral FILE puts Intel's into its evidence" : `in its evidence, valid until ${collateralUntil}`}`,
  ];
  if (open.length > 0) {
    lines.push(
      "",
      `Not predicted: ${open.join(", ")}. The policies refuse every machine until they are:`,
      "write them again where its QEMU is (caisson instance IMAGE --qemu PROGRAM),",
      "or with tables from such a machine (--acpi PATH).",
    );
  }
  if (missing.length > 0) {
    lines.push(
      "",
      `Of its owners it has no ${missing.join(" and no ")} yet, without which its KMS gives it nothing: name them with`,
      `${missing.map((name) => `--${name} FILE`).join(" ")} (docs/releases.md).`,
    );
  }
  lines.push(
    "",
    "This starts the image, on a host that can:",
    "",
    renderCommand(production),
    "",
    `Or with libvirt: virsh create ${shellWord(domain.file)}`,
    "",
    domain.xml.trimEnd(),
  );
  return `${lines.join("\n")}\n`;
}
