// SPDX-License-Identifier: Apache-2.0
import { equal, rejects } from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { Qtest } from "./qtest.ts";

test("a QEMU that stops answering is ended, with what it was asked", { timeout: 30_000 }, async (t) => {
  const program = join(temporaryDirectory("qtest", t), "qemu.cjs");
  // Answers one command, and no other.
  writeFileSync(
    program,
    `const path = process.argv[process.argv.indexOf("-qtest") + 1].slice("unix:".length);
     const socket = require("node:net").connect(path);
     socket.once("data", () => socket.write("OK 0x2a\\n"));
     setInterval(() => {}, 1000);`,
  );
  const qtest = await Qtest.start({ program: process.execPath, prefix: [program] }, [], false, 2_000);
  equal(await qtest.inl(1), 42);
  await rejects(qtest.inl(0xcf8), { code: "host/time-limit", message: /'inl 0xcf8' within 2 s/ });
  await qtest.close();
});
