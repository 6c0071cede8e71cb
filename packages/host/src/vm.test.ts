// SPDX-License-Identifier: Apache-2.0
import { equal, match, rejects } from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { HostError } from "./errors.ts";
import { Vm } from "./vm.ts";

const scratch = mkdtempSync(join(tmpdir(), "caisson-test-"));
after(() => rmSync(scratch, { recursive: true }));

test("a machine that QEMU refuses: its words, and nothing left behind", async () => {
  const place = join(scratch, "places");
  mkdirSync(place);
  const file = join(scratch, "file");
  writeFileSync(file, new Uint8Array(4096));
  const usual = process.env.TMPDIR;
  process.env.TMPDIR = place;
  try {
    const start = Vm.start({
      shape: { vcpus: 1, memory: 64 },
      firmwareCode: file,
      firmwareVariables: file,
      kernel: join(scratch, "no-such-kernel"),
      commandLine: "",
      rootfs: file,
      instance: new Uint8Array(512),
      forwards: [],
      signQuote: () => Promise.reject(new Error("unused")),
      accelerator: "tcg",
      serialLog: join(scratch, "serial.log"),
    });
    await rejects(start, (error: HostError) => {
      equal(error.code, "host/program-failed");
      match(error.facts?.[0]?.[1] ?? "", /could not open kernel file/);
      return true;
    });
  } finally {
    if (usual === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = usual;
  }
  equal(readdirSync(place).join(), "");
});
