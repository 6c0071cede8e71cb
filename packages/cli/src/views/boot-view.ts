// SPDX-License-Identifier: Apache-2.0
/**
 * A boot, as a person or a program sees it: console events of the guest become lines on a terminal, and a document.
 *
 * Times are of the host: `start` is when the machine was switched on. What the guest says of itself is its own word;
 * the verification that follows is what counts, and the view says which is which. What it prints is shown without control
 * characters: a guest, or its application, does not move a person's cursor.
 */

import { constants } from "node:os";
import { styleText } from "node:util";
import { caaRecords } from "@caisson/protocol/certificate-report";
import { type ConsoleEvent, decodeConsole } from "@caisson/protocol/console";
import { Failure } from "@caisson/vocabulary/failure";
import { wrap } from "./fold.ts";
import { printable } from "./printable.ts";

/** One stage, with host seconds since the machine was switched on. */
export interface StageRow {
  stage: string;
  state: "running" | "done" | "failed";
  at: number;
  seconds?: number;
  note?: string;
  reason?: string;
}

export interface BootRecord {
  /** Seconds from switching on to the kernel's first instruction, as the guest's uptime implies. */
  firmwareSeconds?: number;
  stages: StageRow[];
  measured: { event: string; digest: string; payload: string }[];
  readySeconds?: number;
  stopped?: string;
}

type Style = Parameters<typeof styleText>[0];

const nameWidth = 18;
/** Where what a line says begins: behind time, mark and name. */
const indent = 8 + 2 + 1 + 1 + nameWidth + 1;
/** Narrower columns would be unreadable; a terminal breaks them itself. */
const leastWidth = 20;

/** Collects events into a record and writes a line for each; `write` gets whole lines without newline. */
/** What a development image says for the record of `caisson bench entropy`: random bytes, which tell a person nothing. */
const forBenchmarks = /^entropy: first bytes/;

export class BootView {
  readonly record: BootRecord = { stages: [], measured: [] };
  readonly #write: (line: string) => void;
  readonly #elapsed: () => number;
  readonly #colour: boolean;
  readonly #columns: number;

  /** `elapsed` gives seconds since the machine was switched on; longer lines than `columns` go on below themselves. */
  constructor(
    write: (line: string) => void,
    elapsed: () => number,
    colour: boolean,
    columns = Number.POSITIVE_INFINITY,
  ) {
    this.#write = write;
    this.#elapsed = elapsed;
    this.#colour = colour;
    this.#columns = columns;
  }

  #styled(style: Style, text: string): string {
    return this.#colour ? styleText(style, text, { validateStream: false }) : text;
  }

  #line(mark: string, name: string, rest: string, style?: Style): void {
    const at = `${this.#elapsed().toFixed(1)} s`.padStart(8);
    const [first = "", ...more] = wrap(rest, Math.max(leastWidth, this.#columns - indent)).map((part) =>
      style === undefined ? part : this.#styled(style, part),
    );
    this.#write(`${this.#styled("dim", at)}  ${mark} ${name.padEnd(nameWidth)} ${first}`.trimEnd());
    for (const part of more) this.#write(" ".repeat(indent) + part);
  }

  /** Something that was settled before the machine was switched on. */
  before(name: string, text: string): void {
    this.#line(this.#styled("green", "✔"), name, printable(text));
  }

  show(event: ConsoleEvent): void {
    if (event.kind === "note" && forBenchmarks.test(event.text)) return;
    const { record } = this;
    if (record.firmwareSeconds === undefined) {
      record.firmwareSeconds = Math.max(0, Number((this.#elapsed() - event.at).toFixed(2)));
      const kernel = `${event.at.toFixed(1)} s from the kernel's start to PID 1's first word`;
      this.#line(" ", "firmware, kernel", `${record.firmwareSeconds.toFixed(1)} s in firmware, ${kernel}`);
    }
    switch (event.kind) {
      case "stage":
        this.#stage(event);
        break;
      case "measured":
        record.measured.push({ event: event.event, digest: event.digest, payload: event.payload });
        this.#line(
          this.#styled("cyan", "●"),
          "",
          `RTMR3 ← ${printable(event.event).padEnd(18)} ${printable(event.digest.slice(0, 16))}…`,
        );
        break;
      case "note":
        this.#line(" ", "", printable(event.text), "yellow");
        break;
      case "ready":
        record.readySeconds = Number(this.#elapsed().toFixed(2));
        break;
      case "app":
        this.#line(" ", "", printable(`${event.service ?? "app"}: ${event.line}`), "dim");
        break;
      case "service":
        this.#line(" ", printable(event.service), printable(`${event.state}  ${event.detail ?? ""}`));
        break;
      case "certificate":
        this.#certificate(event);
        break;
      case "ended":
        this.#line(" ", "ended", printable(`${event.service}: status ${event.status}`));
        break;
      case "stopping":
        record.stopped = event.reason;
        this.#line(" ", "stopping", printable(event.reason));
        break;
    }
  }

  #certificate(event: Extract<ConsoleEvent, { kind: "certificate" }>): void {
    const names = event.names.map(printable).join(", ");
    const line = (text: string) => this.#line(" ", "certificate", printable(text));
    if (event.state === "failed") {
      const again = event.again === undefined ? "" : `; again in ${event.again} s`;
      return line(`none for ${names}: ${event.message}   [${event.reason}]${again}`);
    }
    line(`for ${names} until ${event.notAfter}, renewed at ${event.renewal}; so that nobody else gets one:`);
    for (const record of caaRecords(event.names, event.authority, event.account)) line(record);
  }

  #stage(event: Extract<ConsoleEvent, { kind: "stage" }>): void {
    const { stages } = this.record;
    if (event.state === "started") {
      stages.push({ stage: event.stage, state: "running", at: Number(this.#elapsed().toFixed(2)) });
      return;
    }
    const row = stages.findLast(({ stage }) => stage === event.stage);
    if (row === undefined) return;
    row.state = event.state;
    row.seconds = event.seconds;
    const took = `${event.seconds.toFixed(2)} s`;
    if (event.state === "done") {
      if (event.note !== undefined) row.note = event.note;
      this.#line(
        this.#styled("green", "✔"),
        printable(event.stage),
        `${took}  ${printable(event.note ?? "")}`,
      );
    } else {
      row.reason = event.reason;
      row.note = event.message;
      const why = printable(`${event.message}   [${event.reason}]`);
      this.#line(this.#styled("red", "✘"), printable(event.stage), `${took}  ${why}`);
    }
  }
}

/** A line of a console as a person reads it; empty for an event that only machines read. */
function spoken(line: string): string {
  const event = decodeConsole(line);
  switch (event?.kind) {
    case undefined:
      return line;
    case "note":
      return String(event.text);
    case "stopping":
      return String(event.reason);
    case "service":
      return `${event.service} ${event.state}${event.detail === undefined ? "" : ` (${event.detail})`}`;
    case "app":
      return `${event.service ?? "app"}: ${event.line}`;
    default:
      return "";
  }
}

/** What a console says last that explains an end: the kernel's panic, else the last line with text on it. */
function lastWords(console: string): string | undefined {
  const lines = console.split("\n").map((line) => printable(spoken(line)).trim());
  return lines.findLast((line) => line.includes("Kernel panic")) ?? lines.findLast((line) => line !== "");
}

/** An application that ended with a status that is not 0. */
export class ApplicationError extends Failure<"up/application", "rejected"> {
  override readonly name = "ApplicationError";
  /** `memoryLimit`: bytes, when exceeding them was its end. */
  constructor({ service, status, memoryLimit }: Extract<ConsoleEvent, { kind: "ended" }>) {
    const because =
      memoryLimit === undefined ? "" : `: it exceeded its memory limit of ${memoryLimit / 2 ** 20} MiB`;
    super("up/application", "rejected", `${printable(service)} ended with status ${status}${because}`, {
      facts: status > 128 && status < 193 ? [["killed by", signalName(status - 128)]] : [],
      ...(memoryLimit !== undefined && {
        fix: "a larger limit (docs/application.md); files in /tmp and elsewhere in memory count, too",
      }),
    });
  }
}

/** "SIGKILL" for 9. */
const signalName = (number: number): string =>
  Object.entries(constants.signals).find(([, value]) => value === number)?.[0] ?? `signal ${number}`;

/** A machine that ended although neither its application nor anybody else did. */
export class MachineError extends Failure<"up/machine", "rejected"> {
  override readonly name = "MachineError";
  constructor(console: string, path: string) {
    const words = lastWords(console);
    super("up/machine", "rejected", "the machine ended by itself", {
      facts: words === undefined ? [] : [["last words", words]],
      fix: `read ${path}`,
    });
  }
}

/** A machine that did not get as far as its application. */
export class BootError extends Failure<"up/boot", "rejected"> {
  override readonly name = "BootError";
  /** `console` is everything that the guest printed, `path` where it is kept. */
  constructor(record: BootRecord, console: string, path: string) {
    const failed = record.stages.find(({ state }) => state === "failed");
    const where = failed === undefined ? "before its first stage" : `in stage '${failed.stage}'`;
    const words = failed === undefined ? lastWords(console) : undefined;
    const facts: [string, string][] = [];
    if (failed !== undefined) {
      facts.push(["reason", printable(`${failed.note ?? ""}   [${failed.reason ?? ""}]`)]);
    } else if (words !== undefined) facts.push(["last words", words]);
    super("up/boot", "rejected", `the machine stopped ${where}`, { facts, fix: `read ${path}` });
  }
}
