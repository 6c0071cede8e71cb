// SPDX-License-Identifier: Apache-2.0
/**
 * `caisson firmware compare` from files to table, JSON and picture, on generated images: one whose metadata is found as
 * td-shim has it, one as edk2 has it. No td-shim image can be had from a registry here (docs/decisions/0002-tdvf.md).
 */
import { deepEqual, equal, match, notEqual } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Comparison } from "@caisson/audit/firmware-compare";
import { firmware, ovmfSections, type SyntheticSection } from "@caisson/measure/testing/synthetic";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";

const repository = new URL("../../", import.meta.url).pathname;
const scratch = temporaryDirectory("firmware");

const size = 0x20000;

/** As td-shim lays itself out: a payload in the image beside the shim, memory that is only reserved, no more. */
function shimSections(): SyntheticSection[] {
  const [bfv, cfv, stack, heap, hob] = ovmfSections(size);
  const payload = { ...cfv!, dataOffset: 0x4000, rawSize: 0x8000, address: 0x1000000, memorySize: 0x8000 };
  return [
    {
      ...bfv!,
      dataOffset: 0xc000,
      rawSize: size - 0xc000,
      address: 2 ** 32 - size + 0xc000,
      memorySize: size - 0xc000,
    },
    cfv!,
    stack!,
    heap!,
    hob!,
    { ...payload, type: "Payload", attributes: 1 },
    { ...stack!, type: "PermMem", address: 0x2000000, memorySize: 0x10000, attributes: 2 },
  ];
}

function shim(change?: { at: number }): string {
  const image = firmware(size, shimSections(), "td-shim");
  if (change !== undefined) image[change.at]! ^= 1;
  const path = join(scratch, `shim-${change?.at ?? "as-built"}.bin`);
  writeFileSync(path, image);
  return path;
}

function edk2(): string {
  const path = join(scratch, "edk2.fd");
  writeFileSync(path, firmware(size));
  return path;
}

const compare = (...args: string[]) =>
  spawnSync(process.execPath, [`${repository}packages/cli/src/main.ts`, "firmware", "compare", ...args], {
    encoding: "utf8",
    timeout: 120_000,
  });
const images = (...args: string[]): Comparison[] =>
  (JSON.parse(compare(...args, "--json").stdout) as { images: Comparison[] }).images;

test("a td-shim style image: its form, its sections, and what TDX would measure of it", () => {
  const [row] = images(`shim=${shim()}`);
  equal(row!.name, "shim");
  equal(row!.facts.form, "td-shim");
  deepEqual(
    row!.facts.sections.map(({ type, measured }) => (measured ? `${type}*` : type)),
    ["BFV*", "CFV", "TempMem", "TempMem", "TD_HOB", "Payload*", "PermMem"],
  );
  match(row!.mrtd!.singlePass, /^[0-9a-f]{96}$/);
  notEqual(row!.mrtd!.singlePass, row!.mrtd!.twoPass);
});

test("MRTD follows the shim and its payload, and nothing that is not measured", () => {
  const places = { configuration: 0x100, payload: 0x4100, shim: 0xc100 };
  const [built, configuration, payload, code] = images(
    shim(),
    ...Object.values(places).map((at) => shim({ at })),
  ).map(({ mrtd }) => mrtd!.singlePass);
  equal(configuration, built);
  equal(new Set([built, payload, code]).size, 3);
});

test("side by side with another form: the table and the picture say what is not known, and why", () => {
  const svg = join(scratch, "out.svg");
  const { status, stdout } = compare(`shim=${shim()}`, `edk2=${edk2()}`, "--svg", svg);
  equal(status, 0);
  match(stdout, /^ +shim +edk2$/m);
  match(stdout, /^TDX metadata +td-shim +guid-table$/m);
  match(stdout, /^modules +unknown: it holds no firmware volumes/m);
  match(readFileSync(svg, "utf8"), />shim: modules unknown, it holds no firmware volumes</);
});

test("what is not a firmware is compared all the same; what cannot be read is an error of the caller's", () => {
  const path = join(scratch, "zeros.bin");
  writeFileSync(path, Buffer.alloc(8192));
  const { status, stdout } = compare(path);
  equal(status, 0);
  match(stdout, /^TDX metadata +none$/m);
  match(stdout, /^MRTD, single pass +-$/m);
  equal(compare(join(scratch, "nothing.bin")).status, 2);
});
