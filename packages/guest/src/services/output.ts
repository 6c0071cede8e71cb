// SPDX-License-Identifier: Apache-2.0
/**
 * What a service prints, as lines, at a bounded rate: its pipe is read no faster than PID 1 can bear, so that one that
 * prints without end waits for itself alone; lines over the rate are left out, and counted.
 */
import type { Readable } from "node:stream";
import { finished } from "node:stream/promises";

/** The part of a line that is passed on, in characters. */
const lineLimit = 2_000;

/**
 * Calls `onLine` for every line of `stream`, cut to `lineLimit` characters. The application writes what it likes, so no
 * more than that is ever kept of a line.
 */
export function readLines(stream: Readable, onLine: (line: string) => void): void {
  let line = "";
  stream.setEncoding("utf8");
  stream.on("data", (text: string) => {
    const [rest, ...further] = text.split("\n");
    line = (line + rest).slice(0, lineLimit);
    for (const next of further) {
      onLine(line.replace(/\r$/, ""));
      line = next.slice(0, lineLimit);
    }
  });
  stream.on("end", () => {
    if (line !== "") onLine(line);
  });
}

const drainLimitMs = 1_000;
/** A pipe is read this often at most: what is printed in between costs PID 1 one turn, and who prints one switch. */
const gatherMs = 50;
/** Half of what a pipe holds: who has printed that much meanwhile would soon wait. */
const muchAtOnce = 32 << 10;

export interface Rate {
  /** What is read of a pipe, and what is passed on, in a second. */
  bytes: number;
  lines: number;
}

/**
 * `readLines` within a rate; of `stream` one piece is taken each time, so it has to be one that gathers (`pipe`). The count
 * of what was left out comes as a line of its own, once a second at most. Returns what reads the rest at once, when
 * nobody can write to the pipe any more, and says the last count.
 */
export function readLimited(
  stream: Readable,
  rate: Rate,
  onLine: (line: string) => void,
): () => Promise<void> {
  let bytes = 0;
  let lines = 0;
  let timer: NodeJS.Timeout | undefined;
  const renew = (): void => {
    timer = undefined;
    const leftOut = lines - rate.lines;
    [bytes, lines] = [0, 0];
    if (leftOut > 0) onLine(`(${leftOut} lines were left out: more than ${rate.lines} in a second)`);
    stream.resume();
  };
  const within = (): void => {
    timer ??= setTimeout(renew, 1000).unref();
  };
  // Where nothing is passed on nothing is taken apart: lines cost PID 1 what they do not cost who prints them.
  if (rate.lines > 0) {
    readLines(stream, (line) => {
      within();
      if (++lines <= rate.lines) onLine(line);
    });
  }
  stream.on("data", (text: string | Buffer) => {
    bytes += text.length;
    within();
    if (bytes < 0) return; // what is left is read at once
    stream.pause();
    const waitMs = text.length < muchAtOnce ? gatherMs : 0;
    setTimeout(() => bytes < rate.bytes && stream.resume(), waitMs).unref();
  });
  return async () => {
    bytes = Number.NEGATIVE_INFINITY;
    stream.resume();
    await finished(stream, { signal: AbortSignal.timeout(drainLimitMs) }).catch(() => undefined);
    clearTimeout(timer);
    renew();
    stream.destroy();
  };
}
