// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import { encodeConsole } from "@caisson/protocol/console";
import { BootError, BootView, MachineError } from "./boot-view.ts";

function view(columns?: number): { view: BootView; lines: string[] } {
  const lines: string[] = [];
  return {
    lines,
    view: new BootView(
      (line) => lines.push(line),
      () => 12.34,
      false,
      columns,
    ),
  };
}

test("a stage, its event and the end become lines and a record", () => {
  const { view: boot, lines } = view();
  boot.show({ at: 2.3, kind: "stage", stage: "time", state: "started" });
  boot.show({ at: 2.4, kind: "measured", event: "secure-time", digest: "ab".repeat(48), payload: "00" });
  boot.show({ at: 2.5, kind: "stage", stage: "time", state: "done", seconds: 0.2, note: "five agree" });
  boot.show({ at: 2.6, kind: "ready", port: 8080 });
  deepEqual(lines, [
    "  12.3 s    firmware, kernel   10.0 s in firmware, 2.3 s from the kernel's start to PID 1's first word",
    `  12.3 s  ●                    RTMR3 ← secure-time        ${"ab".repeat(8)}…`,
    "  12.3 s  ✔ time               0.20 s  five agree",
  ]);
  equal(boot.record.readySeconds, 12.34);
  deepEqual(boot.record.stages, [
    { stage: "time", state: "done", at: 12.34, seconds: 0.2, note: "five agree" },
  ]);
});

test("what the guest says cannot steer a terminal", () => {
  const { view: boot, lines } = view();
  const evil = "\x1b[2J\x1b]0;title\x07first\r\nsecond\x9b31m\x00";
  boot.show({ at: 0, kind: "app", line: evil });
  boot.show({ at: 0, kind: "note", text: evil });
  boot.show({ at: 0, kind: "stage", stage: evil, state: "started" });
  boot.show({ at: 0, kind: "stage", stage: evil, state: "failed", seconds: 0, reason: evil, message: evil });
  boot.show({ at: 0, kind: "stopping", reason: evil });
  equal(lines.length, 5);
  for (const line of lines) equal(/\p{Cc}/u.test(line), false, JSON.stringify(line));
});

test("a machine that stops before its first stage is explained by the kernel's panic", () => {
  const panic = "[    1.2] Kernel panic - not syncing: dm-verity device corrupted";
  const error = new BootError(
    { stages: [], measured: [] },
    `BdsDxe\n${panic}\r\n[    1.3] Rebooting\n\n`,
    "x.log",
  );
  equal(error.message, "the machine stopped before its first stage");
  deepEqual(error.facts, [["last words", panic]]);
  equal(error.fix, "read x.log");
});

test("without a panic, by the last line; in a stage, by the stage's reason", () => {
  deepEqual(new BootError({ stages: [], measured: [] }, "one\ntwo\x1b[0m\n", "x.log").facts, [
    ["last words", "two"],
  ]);
  const said = encodeConsole({ at: 1, kind: "note", text: "the\x07clock" });
  const evidence = encodeConsole({ at: 1, kind: "evidence", part: 0, of: 1, data: "AAAA" });
  deepEqual(new MachineError(`one\n${said}${evidence}`, "x.log").facts, [["last words", "the clock"]]);
  deepEqual(new BootError({ stages: [], measured: [] }, "", "x.log").facts, []);
  const stages = [
    { stage: "keys", state: "failed", at: 1, note: "no answer", reason: "keys/unreachable" } as const,
  ];
  deepEqual(new BootError({ stages, measured: [] }, "noise", "x.log").facts, [
    ["reason", "no answer   [keys/unreachable]"],
  ]);
});

test("no line is wider than the terminal: what is longer goes on below itself", () => {
  const { view: boot, lines } = view(80);
  const note = "DEVELOPMENT IMAGE: it protects nothing and its evidence proves nothing about hardware";
  boot.show({ at: 2.3, kind: "note", text: note });
  boot.show({ at: 2.4, kind: "app", line: "x".repeat(120) });
  deepEqual(
    lines.filter((line) => line.length > 80),
    [],
  );
  const said = lines.map((line) => line.slice(31)).join(" ");
  equal(said.includes(note), true);
  equal(
    lines.slice(2).every((line) => /^ {2}12\.3 s| {31}\S/.test(line)),
    true,
  );
  const narrow = view(10);
  narrow.view.show({ at: 2.3, kind: "note", text: "a b ".repeat(20) });
  equal(narrow.lines.length < 10, true, "a terminal too narrow for columns does not get one letter a line");
});

test("a certificate comes with its dates and the records to set, and a refusal with its reason", () => {
  const { view: boot, lines } = view();
  const names = ["guest.example.org"];
  boot.show({
    at: 0,
    kind: "certificate",
    names,
    state: "issued",
    authority: "ca.example",
    account: "https://ca.example/acct/7",
    notAfter: "2027-02-01T00:00:00.000Z",
    renewal: "2027-01-01T00:00:00.000Z",
  });
  boot.show({
    at: 0,
    kind: "certificate",
    names,
    state: "failed",
    reason: "acme/refused",
    message: "no\x1b[2J",
    again: 60,
  });
  const shown = lines.slice(1).map((line) => line.replace(/^.* certificate +/, ""));
  deepEqual(shown, [
    "for guest.example.org until 2027-02-01T00:00:00.000Z, renewed at 2027-01-01T00:00:00.000Z; so that nobody else gets one:",
    'guest.example.org. CAA 0 issue "ca.example;validationmethods=tls-alpn-01;accounturi=https://ca.example/acct/7"',
    'guest.example.org. CAA 0 issuewild ";"',
    "none for guest.example.org: no   [acme/refused]; again in 60 s",
  ]);
});
