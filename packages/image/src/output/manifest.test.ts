// SPDX-License-Identifier: Apache-2.0
/** The manifest's reader beside its writer: what it takes, and what it refuses by name. */

import { deepEqual, throws } from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { exampleManifest } from "../testing/manifest.ts";
import { artefacts, formatManifest, type Manifest, parseManifest, readManifest } from "./manifest.ts";

const artefact = (file: string) => ({ file, size: 1, sha256: "ab".repeat(32) });

const manifest = exampleManifest();
const text = (value: object) => formatManifest(value as unknown as Manifest);

test("what is written is read again, and every file of the image is among its artefacts", () => {
  const read = parseManifest(text(manifest), "manifest.json");
  deepEqual(read, manifest);
  deepEqual(
    artefacts(read).map(({ file }) => file),
    ["kernel", "rootfs.img", "firmware/code.fd", "firmware/variables.fd", "firmware/tdx.fd", "sbom.cdx.json"],
  );
});

const refused: Record<string, unknown> = {
  "another schema": { ...manifest, schema: "caisson/manifest/v2" },
  "a file above the directory": { ...manifest, kernel: artefact("../kernel") },
  "a file above it in the middle": { ...manifest, sbom: artefact("a/../../b") },
  "an absolute path": { ...manifest, rootfs: artefact("/etc/passwd") },
  "an empty name": { ...manifest, kernel: artefact("") },
  "a hash that is not one": { ...manifest, kernel: { ...artefact("kernel"), sha256: "AB" } },
  "a negative size": { ...manifest, kernel: { ...artefact("kernel"), size: -1 } },
  "no flavour": { ...manifest, flavour: undefined },
  "no command line": { ...manifest, commandLine: undefined },
  "no firmware of a platform": { ...manifest, firmware: { emulated: manifest.firmware.emulated } },
  "firmware of an unknown platform": { ...manifest, firmware: { ...manifest.firmware, other: {} } },
  "a guest that PID 1 would refuse": { ...manifest, guest: { ...manifest.guest, flavour: "other" } },
  "a list": [],
  nothing: null,
};
for (const [name, value] of Object.entries(refused)) {
  test(`refused: ${name}`, () => {
    throws(() => parseManifest(JSON.stringify(value), "x/manifest.json"), {
      code: "image/manifest",
      message: /^x\/manifest\.json is not the manifest of an image: /,
    });
  });
}

test("a cut manifest is refused at every length", () => {
  const whole = text(manifest);
  for (let length = 0; length < whole.length - 2; length += 7) {
    throws(() => parseManifest(whole.slice(0, length), "manifest.json"), { code: "image/manifest" });
  }
});

test("a directory without one is not an image, and the remedy says how to make one", () => {
  const directory = mkdtempSync(join(tmpdir(), "caisson-manifest-"));
  try {
    throws(() => readManifest(directory), { code: "image/missing", fix: /^caisson build / });
  } finally {
    rmSync(directory, { recursive: true });
  }
});
