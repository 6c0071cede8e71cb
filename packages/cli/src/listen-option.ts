// SPDX-License-Identifier: Apache-2.0
/** `--listen HOST:PORT` of commands that serve. */
import { InvalidArgumentError, Option } from "commander";

export interface Listen {
  host: string;
  port: number;
}

function parseListen(text: string): Listen {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:\s]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) throw new InvalidArgumentError("expected HOST:PORT");
  return { host: (match[1] ?? match[2])!, port };
}

export const listenOption = (port: number): Option =>
  new Option("--listen <HOST:PORT>", "address to serve")
    .argParser(parseListen)
    .default({ host: "127.0.0.1", port }, `127.0.0.1:${port}`);
