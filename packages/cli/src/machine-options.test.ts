// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import { createServer } from "node:net";
import { test } from "node:test";
import { checkPort, memoryOption, parseMemory } from "./machine-options.ts";

test("sizes of memory, in MiB", () => {
  deepEqual(["1024", "1024M", "1024MiB", "1G", "1GiB", "1g", "1GB"].map(parseMemory), Array(7).fill(1024));
  deepEqual(["512", "1T", "3G"].map(parseMemory), [512, 1 << 20, 3072]);
  for (const wrong of ["", "0", "511", "1.5G", "-1G", "2T", "1K", "1 G", "1e3", "2147483648", "G"]) {
    throws(() => parseMemory(wrong), { code: "commander.invalidArgument" }, wrong);
  }
});

test("what the default says is what it is", () => {
  const { defaultValue, defaultValueDescription } = memoryOption();
  equal(parseMemory(defaultValueDescription!), defaultValue);
});

test("a port that is taken is named", async (t) => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const { port } = server.address() as { port: number };
  await rejects(checkPort(port), {
    code: "up/port",
    kind: "unavailable",
    message: new RegExp(`port ${port} .*taken`),
  });
  await new Promise((resolve) => server.close(resolve));
  await checkPort(port);
});
