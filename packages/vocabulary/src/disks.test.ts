// SPDX-License-Identifier: Apache-2.0
import { deepEqual } from "node:assert/strict";
import { test } from "node:test";
import { diskPath, disks } from "./disks.ts";

test("disks have the devices that the measured command line and PID 1 name", () => {
  deepEqual(Object.fromEntries(disks.map((disk) => [disk, diskPath(disk)])), {
    root: "/dev/vda",
    instance: "/dev/vdb",
  });
});
