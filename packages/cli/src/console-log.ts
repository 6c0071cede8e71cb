// SPDX-License-Identifier: Apache-2.0
/**
 * The console of a machine that `caisson up` started, as it lies in `<image>.state/console.log`: what a development
 * image says of its services. It is the guest's own word, and whoever owns the host can write what he likes there.
 */
import { closeSync, existsSync, openSync, readSync, statSync } from "node:fs";
import { join } from "node:path";
import { StringDecoder } from "node:string_decoder";
import { setTimeout as sleep } from "node:timers/promises";
import { imageDirectory, readSpec } from "@caisson/image";
import { type ConsoleEvent, consoleDecoder } from "@caisson/protocol/console";
import { type Flavour, flavours } from "@caisson/vocabulary/flavours";
import { UsageError } from "./failure.ts";

/** The console of a spec's machine, of a flavour or of the one that was started last. Throws UsageError when none was. */
export async function consoleOf(path: string, flavour?: Flavour): Promise<string> {
  const spec = await readSpec(path);
  const found = (flavour === undefined ? flavours : [flavour])
    .map((one) => join(`${imageDirectory(spec, one)}.state`, "console.log"))
    .filter((log) => existsSync(log))
    .sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs);
  if (found[0] !== undefined) return found[0];
  throw new UsageError(`${path} was not started on this machine`, `caisson up ${path}`);
}

/** A line that never ends is given up after this many characters: no event is longer. */
const lineLimit = 1 << 16;
const chunk = 1 << 16;
const pollMs = 200;

/**
 * The events of a console, from its first. With `follow` it goes on until the signal; when the file is begun anew, by
 * another `up`, it starts again there.
 */
export async function* readConsole(path: string, follow?: AbortSignal): AsyncGenerator<ConsoleEvent> {
  const file = openSync(path, "r");
  const decoder = new StringDecoder("utf8");
  const buffer = Buffer.alloc(chunk);
  let [offset, rest, decode] = [0, "", consoleDecoder()];
  try {
    for (;;) {
      const size = readSync(file, buffer, 0, chunk, offset);
      offset += size;
      const [first, ...further] = decoder.write(buffer.subarray(0, size)).split("\n");
      rest = (rest + first!).slice(0, lineLimit);
      for (const next of further) {
        const event = decode(rest);
        rest = next.slice(0, lineLimit);
        if (event !== undefined) yield event;
      }
      if (size > 0) continue;
      if (follow === undefined || follow.aborted) return;
      // `up` empties the file before it writes it.
      if (readSync(file, buffer, 0, 1, Math.max(0, offset - 1)) === 0)
        [offset, rest, decode] = [0, "", consoleDecoder()];
      await sleep(pollMs, undefined, { signal: follow }).catch(() => {});
    }
  } finally {
    closeSync(file);
  }
}
