// SPDX-License-Identifier: Apache-2.0
/**
 * What PID 1 prints on the serial console, one line an event: `caisson ` and a JSON object. The host shows it to a
 * person; nothing is ever decided by it, because whoever owns the host can write what it likes there. It carries no
 * secret for the same reason.
 */

import type { CertificateReport } from "./certificate-report.ts";

/** `at` is seconds since the kernel started. */
export type ConsoleEvent = { at: number } & (
  | { kind: "stage"; stage: string; state: "started" }
  | { kind: "stage"; stage: string; state: "done"; seconds: number; note?: string }
  | { kind: "stage"; stage: string; state: "failed"; seconds: number; reason: string; message: string }
  /** One runtime event, as measured into RTMR3; `digest` and `payload` are hex. */
  | { kind: "measured"; event: string; digest: string; payload: string }
  | { kind: "note"; text: string }
  /** The application runs; `port` where it has one and accepts connections there. */
  | { kind: "ready"; port?: number }
  /** A part of the evidence over the instance's challenge, counted from 0; `data` is base64. Development images only. */
  | { kind: "evidence"; part: number; of: number; data: string }
  /** A line that a service wrote, named where there are several; development images only. */
  | { kind: "app"; service?: string; line: string }
  /** A part of what services wrote, encrypted to the owner's keys (`sealed-log.ts`), base64. */
  | { kind: "log"; data: string }
  /** A service's state changed. */
  | { kind: "service"; service: string; state: string; detail?: string }
  /** All services ended by themselves: the first that failed; `memoryLimit` (bytes) where that limit killed it. */
  | { kind: "ended"; service: string; status: number; memoryLimit?: number; fault?: string }
  /** What became of the front's public certificate, for these names. */
  | ({ kind: "certificate"; names: readonly string[] } & CertificateReport)
  | { kind: "stopping"; reason: string }
);

const prefix = "caisson ";
/** No event is longer. */
const lineLimit = 1 << 15;

/** One line, with its newline. Line separators that JSON leaves as they are would end it early for some readers. */
export function encodeConsole(event: ConsoleEvent): string {
  const json = JSON.stringify(event).replace(/[\u2028\u2029]/g, (separator) =>
    separator === "\u2028" ? "\\u2028" : "\\u2029",
  );
  return `${prefix}${json}\n`;
}

/** The event of a line, or undefined when the line is something else (the kernel, the firmware, an impostor's). */
export function decodeConsole(line: string): ConsoleEvent | undefined {
  const start = line.indexOf(prefix);
  if (start < 0 || line.length > lineLimit) return undefined;
  try {
    const value: unknown = JSON.parse(line.slice(start + prefix.length));
    if (typeof value !== "object" || value === null || !("kind" in value) || !("at" in value))
      return undefined;
    return typeof value.kind === "string" && typeof value.at === "number"
      ? (value as ConsoleEvent)
      : undefined;
  } catch {
    return undefined;
  }
}

/** How the kernel begins a message (CONFIG_PRINTK_TIME). */
const kernelStamp = /\[ *\d+\.\d{6}\] /g;
/** How many ways to join two pieces are tried; text may hold what looks like a stamp. */
const headLimit = 16;

/**
 * What may have been written of a line before the kernel wrote a message of its own into it, to that line's end. The
 * longest first: a stamp before the last one is the event's own text.
 */
const headsOf = (line: string): string[] =>
  line.length > lineLimit
    ? []
    : Array.from(line.matchAll(kernelStamp), ({ index }) => line.slice(0, index)).reverse();

/**
 * Decodes a console's lines in their order. The kernel writes to the port without asking whose line is on its way
 * (serial8250_console_write), so that one of its errors, say of a service at its memory limit, may stand in the middle
 * of an event: what follows in the next line that is not the kernel's is put behind what was before.
 */
export function consoleDecoder(): (line: string) => ConsoleEvent | undefined {
  let heads: readonly string[] = [];
  return (line) => {
    for (const head of ["", ...heads]) {
      const event = decodeConsole(head + line);
      if (event === undefined) continue;
      heads = [];
      return event;
    }
    // A message of the kernel alone begins with its stamp, so that nothing before it stays what it was.
    const more = headsOf(line);
    heads = [...new Set([...heads, ""].flatMap((head) => more.map((piece) => head + piece)))].slice(
      0,
      headLimit,
    );
    return undefined;
  };
}
