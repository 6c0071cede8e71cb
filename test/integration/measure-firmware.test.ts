// SPDX-License-Identifier: Apache-2.0
/** Debian's firmware generations and other people's tools as oracles for measurements. */
import { deepEqual, equal, match, notEqual } from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { authenticode, measuredEvents, mrtd, parseEventLog, parseTdxMetadata } from "@caisson/measure";
import { firmwareTraits, firmwareVolumes, ovmfVolumes } from "@caisson/measure/firmware-volume";
import { kernel, pe } from "@caisson/measure/testing/synthetic";
import { replayPcrs } from "@caisson/measure/tpm-log";
import { readVariableStore } from "@caisson/measure/variables";
import { toHex } from "@caisson/vocabulary/bytes";
import { unpackDebian } from "../support/debian.ts";

const trial = (name: string) => new URL(`../../packages/measure/vectors/trial/${name}`, import.meta.url);

const firmwares = [
  {
    suite: "bookworm",
    name: "ovmf",
    file: "OVMF.fd",
    version: "2022.11-6+deb12u2",
    singlePass:
      "4c7206f0f483c524f12c366c711e9049030a8d47c471ee5aa9c4999a08de4057fb887fed0744d5631a212967fb231c47",
    twoPass:
      "acccbcc870a381adab0d3919d90a7f268ac3b0364771f202ed4bb4e892d045b33db3b32e6924cba830a724eed443f7e1",
  },
  {
    suite: "forky",
    name: "ovmf-amdsev",
    file: "OVMF.amdsev.fd",
    version: "2026.08+ds-2",
    singlePass:
      "5f77220a7135b2be2087c3555b897a1c56ca84516fafc622a33fa498a46305a12597a18bb57bc50f714ffab9fe6f004d",
    twoPass:
      "85ed058ce01afaac31effa3fcf2cdf65bd0e4e3bcf61adabb3ece33fdf300b569785d7d6c0c3d29fe11bbbc09da1cd43",
  },
];
for (const { suite, name, file, version, singlePass, twoPass } of firmwares) {
  test(`Debian's ${name} ${version}: MRTD in both page orders`, async (t) => {
    const unpacked = await unpackDebian(suite, [name]);
    const image = new Uint8Array(readFileSync(join(unpacked.root, "usr/share/ovmf", file)));
    const { sections } = parseTdxMetadata(image);
    if (unpacked.versions[name] !== version) {
      t.diagnostic(`${suite} now has ${unpacked.versions[name]}: another MRTD`);
      for (const order of ["single-pass", "two-pass"] as const) {
        notEqual(toHex(await mrtd(image, sections, order)), order === "two-pass" ? twoPass : singlePass);
      }
      return;
    }
    equal(toHex(await mrtd(image, sections, "single-pass")), singlePass);
    equal(toHex(await mrtd(image, sections, "two-pass")), twoPass);
  });
}

// The digests that the firmware itself measured into PCR 0 of the trial's boots.
for (const { suite, name, release, dxe, pei } of [
  { suite: "bookworm", name: "ovmf", release: "2022.11", dxe: 2, pei: undefined },
  { suite: "trixie", name: "ovmf", release: "2025.02", dxe: 2, pei: 1 },
  { suite: "forky", name: "ovmf-generic", release: "2026.08", dxe: 2, pei: 1 },
]) {
  test(`OVMF ${release}: ${pei ? "PEI and DXE volume are" : "the DXE volume is"} what the firmware itself measured`, async (t) => {
    const unpacked = await unpackDebian(suite, [name]);
    const image = new Uint8Array(readFileSync(join(unpacked.root, "usr/share/OVMF/OVMF_CODE_4M.fd")));
    const log = measuredEvents(parseEventLog(readFileSync(trial(`ovmf-${release}-direct-boot.tcg2`))), "pcr");
    const volumes = ovmfVolumes(image);
    const digest = (bytes: Uint8Array) => createHash("sha384").update(bytes).digest("hex");
    if (unpacked.versions[name]?.startsWith(release) !== true) {
      t.diagnostic(`${suite} now has ${unpacked.versions[name]}: other volumes`);
      notEqual(digest(volumes.dxe!), toHex(log[dxe]!.digest));
      return;
    }
    equal(digest(volumes.dxe!), toHex(log[dxe]!.digest));
    if (pei !== undefined) equal(digest(volumes.pei!), toHex(log[pei]!.digest));
  });
}

test("inspection tells a TDX firmware with keys from a general one with shell and network", async () => {
  const [tdx, general] = [
    await unpackDebian("forky", ["ovmf-inteltdx"]),
    await unpackDebian("trixie", ["ovmf"]),
  ];
  const image = new Uint8Array(readFileSync(join(tdx.root, "usr/share/ovmf/OVMF.inteltdx.ms.fd")));
  const traits = firmwareTraits(firmwareVolumes(image));
  deepEqual([traits.shell, traits.network, traits.secureBoot], [false, [], true]);
  const cfv = parseTdxMetadata(image).sections.find(({ type }) => type === "CFV")!;
  const store = readVariableStore(image.subarray(cfv.dataOffset, cfv.dataOffset + cfv.rawSize));
  deepEqual([...store.keys()].map((key) => key.slice(0, -37)).sort(), ["KEK", "PK", "db", "dbx"]);
  const other = firmwareTraits(
    firmwareVolumes(new Uint8Array(readFileSync(join(general.root, "usr/share/OVMF/OVMF_CODE_4M.fd")))),
  );
  deepEqual([other.shell, other.secureBoot, other.network.includes("TcpDxe")], [true, false, true]);
});

for (const release of ["2022.11", "2025.02", "2026.08"]) {
  test(`tpm2_eventlog computes the same PCRs from the log of OVMF ${release}`, async () => {
    const path = trial(`ovmf-${release}-direct-boot.tcg2`).pathname;
    const said = execFileSync("tpm2_eventlog", [path], { encoding: "utf8" });
    const values = await replayPcrs(parseEventLog(readFileSync(path)));
    const block = said.slice(said.lastIndexOf("\n  sha384:"));
    const theirs = [...block.matchAll(/^\s+(\d+)\s*: 0x([0-9a-f]{96})$/gm)].map(([, pcr, value]) => [
      Number(pcr),
      value,
    ]);
    deepEqual(
      theirs,
      [...values].sort((a, b) => a[0] - b[0]).map(([pcr, value]) => [pcr, toHex(value)]),
    );
  });
}

/** osslsigncode signs only what it can digest; its own digest is in the verification's text. */
function osslsigncodeDigest(image: Uint8Array): string {
  const directory = mkdtempSync(join(tmpdir(), "caisson-pe-"));
  try {
    const [key, unsigned, signed] = ["key.pem", "in.efi", "out.efi"].map((name) => join(directory, name)) as [
      string,
      string,
      string,
    ];
    writeFileSync(unsigned, image);
    const certificate = join(directory, "certificate.pem");
    const subject = ["-subj", "/CN=test", "-days", "2", "-nodes", "-newkey", "rsa:2048"];
    execFileSync("openssl", ["req", "-x509", ...subject, "-keyout", key, "-out", certificate], {
      stdio: "ignore",
    });
    const sign = [
      "sign",
      "-h",
      "sha384",
      "-certs",
      certificate,
      "-key",
      key,
      "-in",
      unsigned,
      "-out",
      signed,
    ];
    execFileSync("osslsigncode", sign, { stdio: "ignore" });
    const { stdout } = spawnSync("osslsigncode", ["verify", "-in", signed, "-CAfile", certificate], {
      encoding: "utf8",
    });
    return /Calculated message digest\s*:\s*([0-9A-F]{96})/.exec(stdout)?.[1]?.toLowerCase() ?? stdout;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

for (const [name, image] of [
  ["a small PE", pe()],
  ["a PE with a bzImage header", kernel()],
] as const) {
  test(`osslsigncode computes the same Authenticode SHA-384 for ${name}`, async () => {
    // It pads to 8 bytes before it signs; these images are multiples of 8, so that its digest is edk2's.
    equal(image.length % 8, 0);
    const theirs = osslsigncodeDigest(image);
    match(theirs, /^[0-9a-f]{96}$/);
    equal(toHex(await authenticode(image)), theirs);
  });
}
