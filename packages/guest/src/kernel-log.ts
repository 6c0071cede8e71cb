// SPDX-License-Identifier: Apache-2.0
/**
 * The kernel's log, one record a line: `priority,sequence,microseconds,flags;text` (Documentation/ABI/testing/dev-kmsg).
 */
import { closeSync, constants, openSync, readSync } from "node:fs";
import { join } from "node:path";

/** The longest record that the kernel gives (PRINTK_MESSAGE_MAX). Bytes. */
const longest = 8192;

/** What a record says. */
export const textOf = (record: string): string => record.slice(record.indexOf(";") + 1);

export class KernelLog {
  readonly #file: number;
  readonly #buffer = Buffer.alloc(longest);

  constructor(root: string) {
    this.#file = openSync(join(root, "dev/kmsg"), constants.O_RDONLY | constants.O_NONBLOCK);
  }

  /**
   * The records since the last call, at first all that are kept. Reading without blocking ends with EAGAIN (a file ends by
   * itself); EPIPE says that records were overwritten meanwhile, and the next read goes on behind them.
   */
  read(): string[] {
    const records: string[] = [];
    for (;;) {
      try {
        const size = readSync(this.#file, this.#buffer);
        if (size === 0) return records;
        records.push(...this.#buffer.toString("utf8", 0, size).split(/(?<=\n)/));
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === "EAGAIN") return records;
        if (code !== "EPIPE") throw error;
      }
    }
  }

  close(): void {
    closeSync(this.#file);
  }
}

/** The records that the kernel has kept until now. */
export function kernelLog(root: string): string[] {
  const log = new KernelLog(root);
  try {
    return log.read();
  } finally {
    log.close();
  }
}
