// SPDX-License-Identifier: Apache-2.0
/**
 * The ACPI files that QEMU hands to firmware over fw_cfg, and what edk2 measures of them: the loader script, then each
 * file that the script allocates, raw and unpatched (OvmfPkg/AcpiPlatformDxe, QemuFwCfgAcpi.c). QEMU's script follows
 * from the tables alone (hw/i386/acpi-build.c, hw/acpi/bios-linker-loader.c), so that the tables blob is enough.
 *
 * Invariants: tables are walked by their own bounded lengths; every pointer names a table that was found.
 */
import { Bytes } from "../bytes.ts";
import { MeasureError } from "../errors.ts";

export const ACPI_TABLES = "etc/acpi/tables";
export const ACPI_RSDP = "etc/acpi/rsdp";
export const ACPI_LOADER = "etc/table-loader";
export const ACPI_TPM_LOG = "etc/tpm/log";

/** fw_cfg files by name. "etc/acpi/tables" has to be there; loader, RSDP and TPM log are derived where missing. */
export type AcpiFiles = Readonly<Record<string, Uint8Array>>;

/** A table inside the blob. */
export interface AcpiTable {
  signature: string;
  offset: number;
  length: number;
}

const COMMAND_SIZE = 128;
const FILE_NAME_SIZE = 56;
const LOADER_SIZE = 4096;
const TPM_LOG_SIZE = 65536;
/** q35 pads to 128 KiB; large machines with many devices to a few hundred. */
const MAX_TABLES_BLOB = 4 << 20;

const malformed = (reason: string, offset: number): MeasureError =>
  new MeasureError("acpi/malformed", `ACPI tables: ${reason}`, { offset });

/** The tables of a blob in file order; ends at its zero padding. Throws MeasureError "acpi/malformed" or "acpi/truncated". */
export function listAcpiTables(blob: Uint8Array): AcpiTable[] {
  if (blob.length > MAX_TABLES_BLOB) throw malformed(`a blob of ${blob.length} bytes`, 0);
  const bytes = new Bytes(blob, "acpi");
  const tables: AcpiTable[] = [];
  let offset = 0;
  while (offset + 8 <= blob.length && bytes.u32(offset) !== 0) {
    const signature = String.fromCharCode(...bytes.slice(offset, 4));
    const length = bytes.u32(offset + 4);
    if (!/^[A-Z0-9]{4}$/.test(signature)) throw malformed("no table signature", offset);
    if (length < 36 || offset + length > blob.length)
      throw malformed(`${signature} of ${length} bytes`, offset + 4);
    tables.push({ signature, offset, length });
    offset += length;
  }
  if (tables.length === 0) throw malformed("no table at all", 0);
  return tables;
}

/**
 * `etc/table-loader` as QEMU's q35 machine writes it for these tables: 4096 bytes.
 * Throws MeasureError "acpi/malformed" unless DSDT, FACP and RSDT are there.
 */
export function deriveLoader(blob: Uint8Array): Uint8Array {
  const tables = listAcpiTables(blob);
  const find = (signature: string): AcpiTable => {
    const table = tables.find((candidate) => candidate.signature === signature);
    if (table === undefined) throw malformed(`no ${signature}`, 0);
    return table;
  };
  const dsdt = find("DSDT");
  const rsdt = find("RSDT");
  const tpm2 = tables.find(({ signature }) => signature === "TPM2");

  const script = new Script();
  // Allocations are prepended by QEMU, hence the order; 2 is the zone below 1 MiB, 1 is high memory.
  script.allocate(ACPI_RSDP, 16, 2);
  if (tpm2 !== undefined) script.allocate(ACPI_TPM_LOG, 1, 1);
  script.allocate(ACPI_TABLES, 64, 1);
  script.checksum(dsdt);
  for (const table of tables.filter(({ offset }) => offset > dsdt.offset && offset < rsdt.offset)) {
    if (table.signature === "FACP") {
      script.pointer(ACPI_TABLES, table.offset + 36, 4, ACPI_TABLES);
      script.pointer(ACPI_TABLES, table.offset + 40, 4, ACPI_TABLES);
      script.pointer(ACPI_TABLES, table.offset + 140, 8, ACPI_TABLES);
    } else if (table.signature === "TPM2") {
      script.pointer(ACPI_TABLES, table.offset + 68, 8, ACPI_TPM_LOG);
    }
    script.checksum(table);
  }
  for (let entry = 36; entry + 4 <= rsdt.length; entry += 4) {
    script.pointer(ACPI_TABLES, rsdt.offset + entry, 4, ACPI_TABLES);
  }
  script.checksum(rsdt);
  script.pointer(ACPI_RSDP, 16, 4, ACPI_TABLES);
  script.checksum({ offset: 0, length: 20 }, ACPI_RSDP, 8);
  return script.bytes();
}

/** `etc/acpi/rsdp` for these tables: revision 0, 20 bytes, not yet relocated or summed. */
export function deriveRsdp(blob: Uint8Array): Uint8Array {
  const rsdt = listAcpiTables(blob).find(({ signature }) => signature === "RSDT");
  if (rsdt === undefined) throw malformed("no RSDT", 0);
  const rsdp = new Uint8Array(20);
  rsdp.set(new TextEncoder().encode("RSD PTR \0BOCHS \0"));
  new DataView(rsdp.buffer).setUint32(16, rsdt.offset, true);
  return rsdp;
}

/** What the firmware measures, in order: file name and bytes. Files that are missing but derivable are derived. */
export function measuredAcpiFiles(files: AcpiFiles): { name: string; bytes: Uint8Array; derived: boolean }[] {
  const tables = files[ACPI_TABLES];
  const derive = (name: string): Uint8Array => {
    if (tables === undefined) throw malformed(`neither ${name} nor ${ACPI_TABLES} given`, 0);
    if (name === ACPI_LOADER) return deriveLoader(tables);
    if (name === ACPI_RSDP) return deriveRsdp(tables);
    if (name === ACPI_TPM_LOG) return new Uint8Array(TPM_LOG_SIZE);
    throw malformed(`the loader allocates ${name}, which is not given`, 0);
  };
  const file = (name: string) => {
    const given = Object.hasOwn(files, name) ? files[name] : undefined;
    return { name, bytes: given ?? derive(name), derived: given === undefined };
  };
  const loader = file(ACPI_LOADER);
  return [loader, ...allocations(loader.bytes).map(file)];
}

/** Names of the files that a loader script allocates, in order. */
function allocations(loader: Uint8Array): string[] {
  const bytes = new Bytes(loader, "acpi");
  if (loader.length % COMMAND_SIZE !== 0 || loader.length > 1 << 20) {
    throw malformed(`a loader script of ${loader.length} bytes`, 0);
  }
  const names: string[] = [];
  for (let at = 0; at < loader.length; at += COMMAND_SIZE) {
    if (bytes.u32(at) !== 1) continue;
    const name = String.fromCharCode(...bytes.slice(at + 4, FILE_NAME_SIZE));
    names.push(name.slice(0, Math.max(name.indexOf("\0"), 0)));
  }
  return names;
}

/** Writes loader commands of 128 bytes each. */
class Script {
  readonly #bytes = new Uint8Array(LOADER_SIZE);
  readonly #view = new DataView(this.#bytes.buffer);
  #at = 0;

  #command(id: number, ...names: string[]): number {
    if (this.#at + COMMAND_SIZE > LOADER_SIZE)
      throw malformed("more tables than a loader script of 4096 bytes holds", 0);
    const start = this.#at;
    this.#view.setUint32(start, id, true);
    names.forEach((name, i) => {
      this.#bytes.set(new TextEncoder().encode(name), start + 4 + FILE_NAME_SIZE * i);
    });
    this.#at += COMMAND_SIZE;
    return start + 4 + FILE_NAME_SIZE * names.length;
  }
  allocate(file: string, alignment: number, zone: number): void {
    const at = this.#command(1, file);
    this.#view.setUint32(at, alignment, true);
    this.#view.setUint8(at + 4, zone);
  }
  pointer(file: string, offset: number, size: number, target: string): void {
    const at = this.#command(2, file, target);
    this.#view.setUint32(at, offset, true);
    this.#view.setUint8(at + 4, size);
  }
  checksum(range: { offset: number; length: number }, file = ACPI_TABLES, field = 9): void {
    const at = this.#command(3, file);
    this.#view.setUint32(at, range.offset + field, true);
    this.#view.setUint32(at + 4, range.offset, true);
    this.#view.setUint32(at + 8, range.length, true);
  }
  bytes(): Uint8Array {
    return this.#bytes;
  }
}
