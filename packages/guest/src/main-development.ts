// SPDX-License-Identifier: Apache-2.0
/** The same as `main.ts`, in development images: with `caisson exec`. */
import { serialPort } from "./console.ts";
import { serveExec } from "./exec.ts";
import { init } from "./init.ts";
import { loadSyscalls } from "./syscalls.ts";

const syscalls = loadSyscalls("/usr/lib/caisson/syscalls.node");
await init({ syscalls, root: "/", port: serialPort(syscalls), exec: serveExec });
