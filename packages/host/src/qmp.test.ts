// SPDX-License-Identifier: Apache-2.0
import { equal, rejects } from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { Qmp } from "./qmp.ts";

const directory = mkdtempSync(join(tmpdir(), "caisson-test-"));
const path = join(directory, "qmp.sock");
let server: Server;
let peer: Socket | undefined;

/** Answers as QEMU does: a greeting, events in between; "quit" ends it without an answer. */
before(async () => {
  server = createServer((socket) => {
    peer = socket;
    socket.write('{"QMP": {}}\n');
    createInterface({ input: socket }).on("line", (line) => {
      const { execute, id } = JSON.parse(line) as { execute: string; id: number };
      socket.write('{"event": "RESUME"}\n');
      if (execute === "hang") return;
      if (execute === "quit") socket.destroy();
      else if (execute === "wrong")
        socket.write(`{"error": {"class": "GenericError", "desc": "no"}, "id": ${id}}\n`);
      else socket.write(`{"return": "${execute}", "id": ${id}}\n`);
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
});
after(() => {
  peer?.destroy();
  server.close();
  rmSync(directory, { recursive: true });
});

test("an answer goes to its question, a refusal has QEMU's words", async () => {
  const qmp = await Qmp.connect(path);
  const answers = await Promise.all([qmp.execute("one"), qmp.execute("two")]);
  equal(answers.join(), "one,two");
  await rejects(qmp.execute("wrong"), { code: "host/program-failed", message: "QEMU refuses wrong: no" });
  qmp.close();
});

test("when QEMU is gone, what was asked and what is asked later both end", async () => {
  const qmp = await Qmp.connect(path);
  await rejects(qmp.execute("quit"), /closed its socket/);
  await rejects(qmp.execute("later"), /closed its socket/);
});

test("a QEMU that hangs is not waited for for ever, and is asked again", { timeout: 10_000 }, async () => {
  const qmp = await Qmp.connect(path, 200);
  await rejects(qmp.execute("hang"), { code: "host/time-limit", message: /answer hang within 0\.2 s/ });
  equal(await qmp.execute("later"), "later");
  qmp.close();
});
