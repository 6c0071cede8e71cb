// SPDX-License-Identifier: Apache-2.0
/**
 * fw_cfg files over qtest: QEMU's own loader against the derived one, iasl's word on every table, the tables of a live
 * TDX guest byte for byte, and SMBIOS as a real firmware measured it.
 */
import { deepEqual, equal, match, notDeepEqual } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { gunzipSync } from "node:zlib";
import { cachedFwCfg, fwCfgOf, mmioWindow } from "@caisson/host/fw-cfg";
import type { Qemu } from "@caisson/host/qtest";
import { ACPI_LOADER, ACPI_RSDP, ACPI_TABLES, measuredEvents, parseEventLog } from "@caisson/measure";
import { deriveLoader, deriveRsdp, listAcpiTables } from "@caisson/measure/acpi-tables";
import { firmwareIdentity, ovmfVolumes } from "@caisson/measure/firmware-volume";
import { measuredSmbios, SMBIOS_TABLES } from "@caisson/measure/smbios";
import { newerQemu, olderQemu, unpackDebian } from "../support/debian.ts";

const installed: Qemu = { program: "qemu-system-x86_64" };
const GIB = 2 ** 30;
/** `-cpu max` under TCG. */
const tcgCpu = { vendor: "AuthenticAMD", physicalBits: 40 };
const machine = (vcpus: number, memory: number, ...more: string[]) => ({
  arguments: [
    "-nodefaults",
    "-machine",
    "q35,hpet=off",
    "-smp",
    String(vcpus),
    "-m",
    `${memory / 2 ** 20}M`,
    ...more,
  ],
  window: mmioWindow(memory, tcgCpu),
});

for (const [name, shape] of [
  ["1 vCPU, no devices", machine(1, GIB)],
  [
    "4 vCPUs, three virtio devices",
    machine(
      4,
      2 * GIB,
      ..."-device virtio-rng-pci -device virtio-balloon-pci -device virtio-scsi-pci".split(" "),
    ),
  ],
] as const) {
  test(`the derived loader and RSDP are QEMU's own: ${name}`, async () => {
    const files = await fwCfgOf(installed, shape);
    deepEqual(deriveLoader(files[ACPI_TABLES]!), files[ACPI_LOADER]);
    deepEqual(deriveRsdp(files[ACPI_TABLES]!), files[ACPI_RSDP]);
  });
}

/** What a firmware does with a loader script: places files, adds their addresses to pointers, and sums. */
function runLoader(script: Uint8Array, given: Readonly<Record<string, Uint8Array>>): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  const addresses = new Map<string, bigint>();
  const commands = Buffer.from(script);
  for (let at = 0; at < commands.length; at += 128) {
    const name = (from: number) =>
      commands.toString("latin1", at + from, at + from + 56).replace(/\0.*$/s, "");
    const command = commands.readUInt32LE(at);
    const file = files.get(name(4));
    if (command === 1) {
      files.set(name(4), Buffer.from(given[name(4)]!));
      addresses.set(name(4), 0x7f00_0000n + 0x10_0000n * BigInt(addresses.size));
    } else if (command === 2) {
      const [offset, size] = [commands.readUInt32LE(at + 116), commands.readUInt8(at + 120)];
      const value = BigInt(file!.readUIntLE(offset, Math.min(size, 6))) + addresses.get(name(60))!;
      file!.writeUIntLE(Number(value), offset, Math.min(size, 6));
    } else if (command === 3) {
      const [field, start, length] = [60, 64, 68].map((from) => commands.readUInt32LE(at + from)) as [
        number,
        number,
        number,
      ];
      file![field] = 0;
      file![field] = -file!.subarray(start, start + length).reduce((sum, byte) => sum + byte, 0) & 0xff;
    }
  }
  return files;
}

/** What iasl says about a table when it takes it apart; it must be able to. */
function iaslWarnings(signature: string, table: Uint8Array): string[] {
  const directory = mkdtempSync(join(tmpdir(), "caisson-iasl-"));
  try {
    const path = join(directory, `${signature}.dat`);
    writeFileSync(path, table);
    const { status, stdout, stderr } = spawnSync("iasl", ["-d", path], { encoding: "utf8" });
    const said = stdout + stderr;
    equal(status, 0, said);
    equal(existsSync(join(directory, `${signature}.dsl`)), true, said);
    return said.split("\n").filter((line) => /warning|error|invalid/i.test(line));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

test("iasl finds every table sound once the derived loader has run, and none of those that it sums before", async () => {
  const devices = "-device virtio-rng-pci -device virtio-scsi-pci".split(" ");
  const files = await fwCfgOf(installed, machine(4, 2 * GIB, ...devices));
  const raw = files[ACPI_TABLES]!;
  const loaded = runLoader(deriveLoader(raw), { ...files, [ACPI_RSDP]: deriveRsdp(raw) });
  const tables = listAcpiTables(raw);
  const signatures = new Set(tables.map(({ signature }) => signature));
  for (const name of ["FACS", "DSDT", "FACP", "APIC", "MCFG", "WAET"])
    equal(signatures.has(name), true, name);
  for (const { signature, offset, length } of tables) {
    const part = (bytes: Uint8Array) => iaslWarnings(signature, bytes.subarray(offset, offset + length));
    deepEqual(part(loaded.get(ACPI_TABLES)!), [], signature);
    const before = signature === "FACS" ? /^$/ : /Incorrect checksum/; // a FACS has none
    match(part(raw).join(), before);
  }
  const rsdp = loaded.get(ACPI_RSDP)!;
  equal(rsdp.reduce((sum, byte) => sum + byte, 0) & 0xff, 0);
});

test("SMBIOS of QEMU's machine with what the firmware's file says of itself is what OVMF 2026.08 measured", async (t) => {
  const unpacked = await unpackDebian("forky", ["ovmf-generic"]);
  const trial = new URL(
    "../../packages/measure/vectors/trial/ovmf-2026.08-direct-boot.tcg2",
    import.meta.url,
  );
  const event = measuredEvents(parseEventLog(readFileSync(trial)), "pcr").find(
    ({ type }) => type === 0x80000009,
  )!;
  const image = readFileSync(join(unpacked.root, "usr/share/OVMF/OVMF_CODE_4M.fd"));
  const identity = firmwareIdentity(ovmfVolumes(image).dxe);
  const tables = (await fwCfgOf(await olderQemu(), machine(2, GIB, "-cpu", "max")))[SMBIOS_TABLES]!;
  const digest = createHash("sha384").update(measuredSmbios(tables, identity)).digest();
  if (unpacked.versions["ovmf-generic"] !== "2026.08+ds-2") {
    t.diagnostic(`forky now has ${unpacked.versions["ovmf-generic"]}, which names itself otherwise`);
    notDeepEqual(digest, Buffer.from(event.digest));
    return;
  }
  deepEqual(digest, Buffer.from(event.digest));
});

test("tables are cached by version and machine, and a damaged cache is read again", async () => {
  const cache = mkdtempSync(join(tmpdir(), "caisson-fw-cfg-test-"));
  try {
    let reads = 0;
    const get = (vcpus: number) =>
      cachedFwCfg(installed, { vcpus }, cache, async () => {
        reads++;
        return fwCfgOf(installed, machine(vcpus, GIB));
      });
    const first = await get(1);
    deepEqual(await get(1), first);
    equal(reads, 1);
    await get(2);
    equal(reads, 2);
    equal(readdirSync(cache).length, 2);
  } finally {
    rmSync(cache, { recursive: true, force: true });
  }
});

test("a machine that QEMU refuses is an error with QEMU's words", async () => {
  const refused = { arguments: ["-machine", "no-such-machine"], window: 0n };
  const error = await fwCfgOf(installed, refused).catch(
    (reason: unknown) => reason as Error & { facts: string[][] },
  );
  equal((error as { code?: string }).code, "host/program-failed");
  equal(JSON.stringify((error as { facts: unknown }).facts).includes("machine type"), true);
});

const vectors = new URL("../../../shared/vectors/tdx-measure/", import.meta.url);
const base = [
  ..."-nodefaults -machine q35,smm=off,pic=off -cpu Skylake-Server,phys-bits=46 -smp 8 -m 4096M".split(" "),
  ..."-global q35-pcihost.pci-hole64-size=4096G".split(" "),
];
const scsi = (id: number) => [
  "-device",
  `virtio-scsi-pci,id=scsi${id},disable-legacy=on,iommu_platform=true`,
];
const captured: Record<string, string[]> = {
  "q35-with-hpet": [
    ...base,
    ..."-device virtio-rng-pci -device virtio-balloon-pci -device virtio-scsi-pci,id=scsi0".split(" "),
  ],
  // The vsock device needs a kernel module of the host; any other virtio device leaves the same trace. 4 GiB stand in
  // for 16: with a 64-bit BAR placed, tables do not depend on memory above 2.75 GiB.
  "runtime-capture": [
    ...base,
    ..."-netdev hubport,id=net0,hubid=0 -device e1000,netdev=net0,bus=pcie.0,addr=0x2,romfile=".split(" "),
    ..."-device virtio-rng-pci".split(" "),
    ...[0, 1, 2].flatMap(scsi),
  ],
};
for (const [name, args] of Object.entries(captured)) {
  test(`QEMU 10.0 reproduces ${name} byte for byte`, async (t) => {
    if (!existsSync(vectors)) return t.skip("../shared/vectors is absent");
    const qemu = await newerQemu();
    const window = mmioWindow(4 * GIB, { vendor: "GenuineIntel", physicalBits: 46 });
    const files = await fwCfgOf(qemu, { arguments: args, window });
    const expected = gunzipSync(readFileSync(new URL(`${name}/acpi_tables.bin.gz`, vectors)));
    deepEqual(Buffer.from(files[ACPI_TABLES]!), expected);
    deepEqual(deriveLoader(files[ACPI_TABLES]!), files[ACPI_LOADER]);
  });
}
