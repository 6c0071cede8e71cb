// SPDX-License-Identifier: Apache-2.0
/**
 * Shows what a long command is doing, on stderr: one live line on a terminal, plain lines elsewhere (a
 * step's end; of one that lasts its start, too, and a line now and then). Times are wall-clock seconds of this run.
 */
import { styleText } from "node:util";
import type { FetchProgress } from "@caisson/image/fetch";
import { timeLeft } from "./remaining.ts";

/** Where it is written; `process.stderr` fits. */
export interface ProgressStream {
  isTTY?: boolean;
  columns?: number;
  write(text: string): unknown;
}

/** Milliseconds between two redraws of the live line; until a step that lasts says so elsewhere; between two lines of it. */
const redrawMs = 100;
const lateMs = 1_000;
const plainMs = 10_000;

export class Progress {
  readonly #stream: ProgressStream;
  readonly #now: () => number;
  #step: string | undefined;
  #detail = "";
  #started = 0;
  #shown = 0;
  #late: NodeJS.Timeout | undefined;

  constructor(stream: ProgressStream = process.stderr, now: () => number = () => performance.now()) {
    this.#stream = stream;
    this.#now = now;
  }

  /** Says what is being done; a new `step` ends the one before. `detail` is what changes within a step. */
  show(step: string, detail = ""): void {
    const now = this.#now();
    if (step !== this.#step) {
      this.done();
      this.#step = step;
      this.#started = now;
      this.#shown = this.#live ? Number.NEGATIVE_INFINITY : now;
      if (!this.#live) this.#late = setTimeout(() => this.#plain(), lateMs).unref();
    }
    this.#detail = detail;
    if (now - this.#shown < (this.#live ? redrawMs : plainMs)) return;
    if (!this.#live) return this.#plain();
    this.#shown = now;
    this.#redraw(`${styleText("cyan", "·")} ${this.#line(step, detail)}`);
  }

  /** Ends the step that is shown, with its time. */
  done(): void {
    clearTimeout(this.#late);
    if (this.#step === undefined) return;
    const seconds = `${((this.#now() - this.#started) / 1000).toFixed(1)} s`;
    const line = this.#line(this.#step, [this.#detail, seconds].filter(Boolean).join(", "));
    if (this.#live) this.#redraw(`${styleText("green", "✔")} ${line}\n`);
    else this.#stream.write(`${line}\n`);
    this.#step = undefined;
  }

  /** Takes the live line away, so that an error message starts on a line of its own. */
  clear(): void {
    clearTimeout(this.#late);
    if (this.#live && this.#step !== undefined) this.#redraw("");
    this.#step = undefined;
  }

  #plain(): void {
    this.#shown = this.#now();
    this.#stream.write(`${this.#line(this.#step!, this.#detail)}\n`);
  }

  get #live(): boolean {
    return this.#stream.isTTY === true;
  }

  #line(step: string, detail: string): string {
    const width = this.#live ? (this.#stream.columns ?? 80) - 3 : 400;
    return `${step.padEnd(12)} ${detail}`.trimEnd().slice(0, width);
  }

  #redraw(text: string): void {
    this.#stream.write(`\r\x1b[2K${text}`);
  }
}

/** Whether colours make sense there (not with NO_COLOR), and how wide it is. */
export const terminal = (stream: NodeJS.WriteStream): [colour: boolean, columns: number] =>
  stream.isTTY ? [stream.hasColors(), stream.columns] : [false, Number.POSITIVE_INFINITY];

/** Bytes for a person: "1.5 MiB". */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  return `${(bytes / 1024 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`;
}

/** How far fetching is. */
export function fetchDetail(progress: FetchProgress): string {
  const { doneBytes, totalBytes, bytesPerSecond, doneFiles, totalFiles } = progress;
  const rate = bytesPerSecond > 0 ? `, ${formatBytes(bytesPerSecond)}/s` : "";
  const left = bytesPerSecond > 0 ? timeLeft((totalBytes - doneBytes) / bytesPerSecond) : "";
  const files = `${doneFiles} of ${totalFiles} files, ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`;
  return `${files}${rate}${left === "" ? "" : `, ${left}`}`;
}
