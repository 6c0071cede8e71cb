// SPDX-License-Identifier: Apache-2.0
import { deepEqual, ok } from "node:assert/strict";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { listeningPorts } from "./listening.ts";

test("the ports of another user are found, on IPv4 and IPv6", async (t) => {
  // A socket is its maker's for good.
  const root = process.geteuid!() === 0;
  if (root) process.seteuid!(65_532);
  t.after(() => {
    if (root) process.seteuid!(0);
  });
  const ports: number[] = [];
  for (const host of ["127.0.0.1", "::1"]) {
    const server = createServer().listen(0, host);
    await once(server, "listening");
    t.after(() => server.close());
    ports.push((server.address() as AddressInfo).port);
  }
  const found = listeningPorts("/proc/self");
  for (const port of ports) {
    // A machine with more listeners than are named shows the lowest ones.
    if (found.length < 16) ok(found.includes(port), `${port} of ${found.join(", ")}`);
  }
});

test("tables are read as the kernel writes them; what cannot be read names nothing", (t) => {
  const process = temporaryDirectory("listening", t);
  deepEqual(listeningPorts(process), []);
  mkdirSync(join(process, "net"));
  writeFileSync(
    join(process, "net/tcp"),
    [
      "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
      "   0: 00000000:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000 65532        0 1 1 0 100 0 0 10 0",
      "   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000 65532        0 1 1 0 100 0 0 10 0",
      "   2: 00000000:FFFD 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0",
      "   3: nonsense",
      "",
    ].join("\n"),
  );
  deepEqual(listeningPorts(process), [3000]);
});
