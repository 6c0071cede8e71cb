// SPDX-License-Identifier: Apache-2.0
/**
 * A program in QEMU's place, where no processor can run a TD: it takes QEMU's arguments, answers on the control socket,
 * says on its console what a guest says, and passes what reaches the forwarded port on. What QEMU itself makes of the
 * arguments is tested with a real one (tdx-arguments.test.ts).
 */
import { chmodSync, writeFileSync } from "node:fs";
import { type ConsoleEvent, encodeConsole } from "@caisson/protocol/console";

export interface StandIn {
  /** What the guest says, each after so many milliseconds. */
  says: readonly (readonly [afterMs: number, event: ConsoleEvent])[];
  /** Where requests to the guest go. */
  guest: string;
  /** Where its arguments and what it was asked are written, a line each. */
  record: string;
}

/** Writes the program. */
export function writeQemu(path: string, { says, guest, record }: StandIn): void {
  const lines = says.map(([after, event]) => [after, encodeConsole(event)]);
  writeFileSync(
    path,
    `#!${process.execPath}
const { appendFileSync } = require("node:fs");
const { createServer, connect } = require("node:net");
const args = process.argv.slice(2);
if (args[0] === "--version") {
  console.log("QEMU emulator version 10.1.2");
  process.exit(0);
}
const record = (line) => appendFileSync(${JSON.stringify(record)}, line + "\\n");
record(JSON.stringify(args));
const after = (option, form) => form.exec(args[args.indexOf(option) + 1])[1];
createServer((socket) => {
  socket.write('{"QMP":{"version":{},"capabilities":[]}}\\n');
  socket.on("error", () => {}).on("data", (bytes) => {
    for (const line of bytes.toString().trim().split("\\n")) {
      const { execute, id } = JSON.parse(line);
      record(execute);
      socket.write(JSON.stringify({ return: {}, id }) + "\\n");
      if (execute === "system_powerdown") setTimeout(() => process.exit(0), 50);
    }
  });
}).listen(after("-qmp", /^unix:([^,]*)/));
createServer((socket) => {
  const { hostname, port } = new URL(${JSON.stringify(guest)});
  const guest = connect(Number(port), hostname);
  socket.on("error", () => guest.destroy()).pipe(guest).on("error", () => socket.destroy()).pipe(socket);
}).listen(Number(after("-netdev", /hostfwd=tcp:127\\.0\\.0\\.1:(\\d+)/)), "127.0.0.1");
for (const [ms, line] of ${JSON.stringify(lines)}) {
  setTimeout(() => {
    console.log(line);
    if (line.includes('"ended"')) setTimeout(() => process.exit(0), 50);
  }, ms);
}
`,
  );
  chmodSync(path, 0o755);
}
