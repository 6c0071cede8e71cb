// SPDX-License-Identifier: Apache-2.0
import { deepEqual } from "node:assert/strict";
import { test } from "node:test";
import { directory } from "../build/tree.ts";
import type { LockedPackage } from "../inputs/lock.ts";
import { sbom } from "./sbom.ts";

test("package URLs are in canonical form, which others compare as text", () => {
  const debian = (name: string, version: string): LockedPackage => ({
    name,
    version,
    architecture: "amd64",
    suite: "trixie",
    archive: "debian",
    groups: ["root"],
    path: "pool/main/x",
    size: 1,
    sha256: "00".repeat(32),
  });
  const text = sbom({
    name: "test",
    flavour: "production",
    sourceDate: 0,
    root: { tree: directory(), origins: new Map(), elf: new Map(), spare: new Map() },
    digests: new Map(),
    packages: [debian("libstdc++6", "14.2.0-19"), debian("libcap2", "1:2.75-10+deb13u1~x")],
    npm: [{ name: "@scope/a", version: "1.0.0+build" }],
    services: [],
  });
  const { components } = JSON.parse(text) as { components: { purl?: string }[] };
  deepEqual(
    components.map(({ purl }) => purl).filter((purl) => purl !== undefined),
    [
      "pkg:deb/debian/libstdc%2B%2B6@14.2.0-19?arch=amd64&distro=trixie",
      "pkg:deb/debian/libcap2@1:2.75-10%2Bdeb13u1~x?arch=amd64&distro=trixie",
      "pkg:npm/%40scope/a@1.0.0%2Bbuild",
    ],
  );
});
