// SPDX-License-Identifier: Apache-2.0
import { deepEqual } from "node:assert/strict";
import { test } from "node:test";
import type { Built, Manifest } from "@caisson/image";
import { summary } from "./build.ts";

const built = (dropped: Manifest["contents"]["dropped"]): Built => ({
  directory: "/out",
  manifest: {
    kernel: { sha256: "k" },
    rootfs: { verity: { rootHash: "r" } },
    contents: { dropped },
  } as Manifest,
});

test("an image is its directory, root hash and kernel", () => {
  deepEqual(summary(built([])), "/out\n  root hash  r\n  kernel     k\n");
});

test("what images lost is a line for each service and kind, with a few paths", () => {
  const setuid = ["/a", "/b", "/c", "/d", "/e", "/f"].map(
    (path) => ({ service: "web", path, dropped: "setuid" }) as const,
  );
  const ping = {
    service: "db",
    path: "/bin/ping",
    dropped: "capability",
    capabilities: ["NET_RAW"],
  } as const;
  const lines = summary(built([...setuid, { service: "db", path: "/tmp", dropped: "sticky" }, ping])).split(
    "\n",
  );
  deepEqual(lines.slice(3), [
    "  dropped    setuid of web's /a, /b, /c, /d, and 2 more (manifest.json, contents.dropped)",
    "  dropped    sticky of db's /tmp",
    "  dropped    capability NET_RAW of db's /bin/ping",
    "",
  ]);
});
