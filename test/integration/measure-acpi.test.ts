/** ACPI files over qtest: QEMU's own loader against the derived one, and the tables of a live TDX guest, byte for byte. */
import { deepEqual, equal } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { gunzipSync } from "node:zlib";
import { cachedAcpiFiles, mmioWindow, qemuVersion, readAcpiFiles, tcgCpu } from "@caisson/host/acpi";
import type { Qemu } from "@caisson/host/qtest";
import { ACPI_LOADER, ACPI_RSDP, ACPI_TABLES } from "@caisson/measure";
import { deriveLoader, deriveRsdp } from "@caisson/measure/acpi-tables";
import { unpackDebian } from "./debian.ts";

const installed: Qemu = { program: "qemu-system-x86_64" };
const skip = spawnSync(installed.program, ["--version"]).error
  ? "qemu-system-x86_64 is not installed"
  : false;
const GIB = 2 ** 30;
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
  test(`the derived loader and RSDP are QEMU's own: ${name}`, { skip }, async () => {
    const files = await readAcpiFiles(installed, shape);
    deepEqual(deriveLoader(files[ACPI_TABLES]!), files[ACPI_LOADER]);
    deepEqual(deriveRsdp(files[ACPI_TABLES]!), files[ACPI_RSDP]);
  });
}

test("tables are cached by version and machine, and a damaged cache is read again", { skip }, async () => {
  const cache = mkdtempSync(join(tmpdir(), "caisson-acpi-test-"));
  try {
    let reads = 0;
    const get = (vcpus: number) =>
      cachedAcpiFiles(installed, { vcpus }, cache, async () => {
        reads++;
        return readAcpiFiles(installed, machine(vcpus, GIB));
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

test("a machine that QEMU refuses is an error with QEMU's words", { skip }, async () => {
  const refused = { arguments: ["-machine", "no-such-machine"], window: 0n };
  const error = await readAcpiFiles(installed, refused).catch(
    (reason: unknown) => reason as Error & { facts: string[][] },
  );
  equal((error as { code?: string }).code, "host/program-failed");
  equal(JSON.stringify((error as { facts: unknown }).facts).includes("machine type"), true);
});

test("OVMF's MMIO window, as seen in real guests", () => {
  equal(mmioWindow(16 * GIB, { vendor: "GenuineIntel", physicalBits: 46 }), 0x380000000000n); // the captured TD
  equal(mmioWindow(16 * GIB, { vendor: "GenuineIntel", physicalBits: 52 }), 0x380000000000n);
  equal(mmioWindow(GIB, tcgCpu), 0xc000000000n); // a boot under TCG: HyperTransport's range is avoided
  equal(mmioWindow(GIB, { vendor: "GenuineIntel", physicalBits: 40 }), 0x800000000n); // not believed
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
    if (!existsSync(vectors)) return t.skip("no vectors of other projects beside this repository");
    const unpacked = await unpackDebian("trixie", ["qemu-system-x86"], { dependencies: true });
    if (typeof unpacked === "string") return t.skip(unpacked);
    const at = (path: string) => join(unpacked.root, path);
    const program = [at("usr/bin/qemu-system-x86_64")];
    const libraries = [
      "--library-path",
      ["", "/pulseaudio"].map((sub) => at(`usr/lib/x86_64-linux-gnu${sub}`)).join(":"),
    ];
    const qemu = { program: at("usr/lib64/ld-linux-x86-64.so.2"), prefix: [...libraries, ...program] };
    const version = await qemuVersion(qemu);
    if (!version.startsWith("10.0.")) return t.skip(`trixie now has QEMU ${version}`);
    const data = ["-L", at("usr/share/qemu"), "-L", at("usr/share/seabios")];
    const window = mmioWindow(4 * GIB, { vendor: "GenuineIntel", physicalBits: 46 });
    const files = await readAcpiFiles(
      { ...qemu, prefix: [...qemu.prefix, ...data] },
      { arguments: args, window },
    );
    const expected = gunzipSync(readFileSync(new URL(`${name}/acpi_tables.bin.gz`, vectors)));
    deepEqual(Buffer.from(files[ACPI_TABLES]!), expected);
    deepEqual(deriveLoader(files[ACPI_TABLES]!), files[ACPI_LOADER]);
  });
}
