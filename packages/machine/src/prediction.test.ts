// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, throws } from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { syntheticSmbios } from "@caisson/measure/testing/synthetic";
import { readFwCfg, smbiosTables } from "./prediction.ts";

test("a by_name directory is read as sysfs has it: links to directories with a file raw", () => {
  const directory = mkdtempSync(join(tmpdir(), "caisson-by-name-"));
  try {
    const at = (...parts: string[]) => join(directory, ...parts);
    for (const path of ["by_key/1", "by_name/etc/acpi", "by_name/etc/smbios"]) {
      mkdirSync(at(path), { recursive: true });
    }
    writeFileSync(at("by_key/1/raw"), "tables");
    writeFileSync(at("by_key/1/key"), "1");
    symlinkSync("../../../by_key/1", at("by_name/etc/acpi/tables"));
    throws(() => readFwCfg(at("by_name/etc/smbios")), { code: "measure/input" });
    writeFileSync(at("by_name/etc/smbios/smbios-tables"), "structures");
    writeFileSync(at("by_name/etc/unknown"), "never measured");
    deepEqual(readFwCfg(at("by_name")), {
      "etc/acpi/tables": new Uint8Array(Buffer.from("tables")),
      "etc/smbios/smbios-tables": new Uint8Array(Buffer.from("structures")),
    });
    deepEqual(readFwCfg(at("by_key/1/raw")), { "etc/acpi/tables": new Uint8Array(Buffer.from("tables")) });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

const tables = syntheticSmbios();
const files = { "etc/smbios/smbios-tables": tables };
const processorId = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);

test("SMBIOS for TCG's processor is not that of a guest with the host's, until that one is given", () => {
  equal(smbiosTables(files, true, undefined), undefined);
  const changed = smbiosTables(files, true, processorId)!;
  equal(Buffer.from(changed).includes(processorId), true);
  equal(changed.length, tables.length);
});

test("SMBIOS under TCG, and what a guest showed, are taken as they are", () => {
  equal(smbiosTables(files, false, undefined), tables);
  equal(smbiosTables(undefined, false, processorId), undefined);
});
