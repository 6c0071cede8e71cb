// SPDX-License-Identifier: Apache-2.0
/** The manifest of an image that does not exist, for tests. */
import { plainService } from "@caisson/protocol/testing/service";

const artefact = (file: string) => ({ file, size: 1, sha256: "ab".repeat(32) });

/** What readers of a manifest rely on; `change` is what the test is about. */
export const exampleManifest = (change: object = {}) => ({
  schema: "caisson/manifest/v1",
  caisson: { version: "0.1.0", sources: "ef".repeat(32) },
  name: "example",
  flavour: "production",
  sourceDate: 1,
  lock: "cd".repeat(32),
  commandLine: "console=ttyS0",
  kernel: artefact("kernel"),
  rootfs: artefact("rootfs.img"),
  firmware: {
    emulated: { code: artefact("firmware/code.fd"), variables: artefact("firmware/variables.fd") },
    tdx: { code: artefact("firmware/tdx.fd") },
  },
  sbom: artefact("sbom.cdx.json"),
  guest: {
    version: "caisson/guest/v1",
    flavour: "production",
    epoch: 1,
    commandLine: ["console=ttyS0"],
    app: { name: "example", services: { example: plainService() }, networks: {}, volumes: {} },
    time: { secure_time: true },
  },
  versions: { firmware: { emulated: "1", tdx: "2" } },
  ...change,
});
