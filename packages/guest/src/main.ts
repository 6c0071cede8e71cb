/** The program that the kernel starts as PID 1. */
import { init } from "./init.ts";
import { loadSyscalls } from "./syscalls.ts";

await init({ syscalls: loadSyscalls("/usr/lib/caisson/syscalls.node"), root: "/" });
