// SPDX-License-Identifier: Apache-2.0
/**
 * What updates a SEV-SNP platform whose levels are too low, from the four TCB versions of its report: pure, and it never
 * decides what is accepted.
 */
import { behind, componentNames, type Tcb, type TcbComponent } from "./products.ts";
import type { TcbKind } from "./report.ts";

/** What carries each component. */
const carriers: Readonly<Record<TcbComponent, string>> = {
  microcode: "a microcode package or the BIOS",
  snp: "the SEV firmware (the host's linux-firmware can load it without a reboot)",
  bootLoader: "the BIOS (AGESA)",
  tee: "the BIOS (AGESA)",
  fmc: "the BIOS (AGESA)",
};

/** One line for each thing that has to be done, most basic first; empty where nothing is behind. */
export function explainTcb(tcb: Readonly<Record<TcbKind, Tcb>>, least: Partial<Tcb>): string[] {
  const lines: string[] = [];
  for (const name of behind(tcb.current, least)) {
    lines.push(
      `${componentNames[name]} is ${tcb.current[name]}, needs ${least[name]}: update ${carriers[name]}`,
    );
  }
  const old = new Set(behind(tcb.current, least));
  const only = (kind: TcbKind, remedy: string) => {
    const names = behind(tcb[kind], least).filter((name) => !old.has(name));
    if (names.length === 0) return;
    const what = names.map((name) => `${componentNames[name]} ${tcb[kind][name]}`).join(", ");
    lines.push(`the running firmware is new enough, but the ${kind} TCB is not (${what}): ${remedy}`);
  };
  only("committed", "the host must commit it (SNP_COMMIT)");
  only("reported", "the host must raise what it reports (SNP_SET_CONFIG)");
  only("launch", "launch the guest again");
  return lines;
}
