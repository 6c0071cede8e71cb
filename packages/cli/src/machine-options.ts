// SPDX-License-Identifier: Apache-2.0
/** The machine that commands speak of: one syntax and one default for all of them. */
import { createServer } from "node:net";
import { Failure } from "@caisson/vocabulary/failure";
import { InvalidArgumentError, Option } from "commander";

const least = 512;
const most = 1 << 20;
const units: Record<string, number> = { "": 1, m: 1, g: 1024, t: 1024 ** 2 };

/** MiB of "2048M", "2G" or "2GiB"; a bare number is MiB. */
export function parseMemory(text: string): number {
  const [, digits, unit] = /^([1-9]\d{0,6})([mgt]?)(?:i?b)?$/i.exec(text) ?? [];
  const value = Number(digits) * units[(unit ?? "").toLowerCase()]!;
  if (value >= least && value <= most) return value;
  throw new InvalidArgumentError(`a size from ${least}M to ${most / 1024}G, such as 2048M or 2G`);
}

/** In MiB. */
export const memoryOption = (): Option =>
  new Option("--memory <size>", "memory, such as 1024M or 2G").argParser(parseMemory).default(1024, "1024M");

/** `--port` names one that something else has. */
class PortError extends Failure<"up/port", "unavailable"> {
  override readonly name = "PortError";
  constructor(port: number, reason: string) {
    super("up/port", "unavailable", `port ${port} of 127.0.0.1 cannot be used: ${reason}`, {
      fix: "another --port, or none: then a free one is taken",
    });
  }
}

/** Refuses a port on which nothing can be made to listen now. Throws PortError. */
export async function checkPort(port: number): Promise<void> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", ({ code, message }: NodeJS.ErrnoException) => {
      reject(new PortError(port, code === "EADDRINUSE" ? "it is taken" : message));
    });
    server.listen(port, "127.0.0.1", resolve);
  });
  await new Promise((resolve) => server.close(resolve));
}
