// SPDX-License-Identifier: Apache-2.0
/** The program that the kernel starts as PID 1. */
import { serialPort } from "./console.ts";
import { init } from "./init.ts";
import { loadSyscalls } from "./syscalls.ts";

const syscalls = loadSyscalls("/usr/lib/caisson/syscalls.node");
await init({ syscalls, root: "/", port: serialPort(syscalls) });
