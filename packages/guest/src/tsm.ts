// SPDX-License-Identifier: Apache-2.0
/**
 * The platform adapter: the kernel's TSM measurement registers and configfs-tsm reports.
 *
 * On TDX the kernel's own driver stands behind these paths; in a development image on plain QEMU our emulation
 * driver does (`kernel/driver`). Same names, same sizes, same errors, hence one adapter. Sources: Linux
 * Documentation/ABI/testing/{sysfs-devices-virtual-misc-tdx_guest,configfs-tsm-report}.
 */

import { mkdir, open, readFile, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { extend as extended, MeasureError, parseEventLog } from "@caisson/measure";
import { messageOf } from "@caisson/vocabulary/failure";
import { limits } from "@caisson/vocabulary/limits";
import type { Platform, PlatformTable } from "@caisson/vocabulary/platforms";
import { withLimit } from "./limit.ts";
import { bootLogPaths, type PlatformAdapter, platformOf, reportProviders } from "./platform.ts";
import { StageFailure } from "./stage.ts";

/** Where the kernel offers them. */
export interface TsmPaths {
  measurements: string;
  reports: string;
  bootLogs: PlatformTable<string>;
}

/** Of a kernel whose file systems lie under `root`. */
export const kernelPaths = (root: string): TsmPaths => ({
  measurements: join(root, "sys/devices/virtual/misc/tdx_guest/measurements"),
  reports: join(root, "sys/kernel/config/tsm/report"),
  bootLogs: bootLogPaths(root),
});

const registerSize = 48;
const reportDataSize = 64;
/** The kernel waits 30 s for the host's quoting service (drivers/virt/coco/tdx-guest, GET_QUOTE_TIMEOUT). */
const quoteLimitMs = 40_000;
/** Registers and boot logs are in memory; where a TPM is emulated, the host has it, and the kernel waits longer than this. */
const readLimitMs = 30_000;

/** The bytes of a file whose length the host decides. Throws StageFailure when there are none, or more than `limit`. */
async function readBounded(path: string, limit: number, reason: string): Promise<Uint8Array> {
  const file = await open(path);
  try {
    const chunks: Buffer[] = [];
    for (let size = 0; size <= limit; ) {
      const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(65_536) });
      if (bytesRead === 0) break;
      chunks.push(buffer.subarray(0, bytesRead));
      size += bytesRead;
    }
    const bytes = Buffer.concat(chunks);
    if (bytes.length === 0 || bytes.length > limit) {
      const found = bytes.length === 0 ? "is empty" : `has more than ${limit} bytes`;
      throw new StageFailure(reason, `${path} ${found}`);
    }
    return bytes;
  } finally {
    await file.close();
  }
}

const late = (what: string, ms: number) => () =>
  new StageFailure(`platform/${what}-timeout`, `no ${what} within ${ms / 1000} s`);

/** `requester` names this user's own report entry, so that two requesters never share a generation counter. */
export function tsmPlatform(requester: string, paths: TsmPaths): PlatformAdapter {
  return new Tsm(requester, paths);
}

class Tsm implements PlatformAdapter {
  readonly name: Platform;
  readonly #entry: string;
  readonly #rtmr3: string;
  readonly #bootLog: string;
  #lastQuote: Promise<unknown> = Promise.resolve();

  constructor(requester: string, { measurements, reports, bootLogs }: TsmPaths) {
    this.name = platformOf(bootLogs);
    this.#entry = join(reports, requester);
    this.#rtmr3 = join(measurements, "rtmr3:sha384");
    this.#bootLog = bootLogs[this.name];
  }

  extend(digest: Uint8Array): Promise<void> {
    return withLimit(this.#extend(digest), readLimitMs, late("register", readLimitMs));
  }

  quote(reportData: Uint8Array): Promise<Uint8Array> {
    // The next one waits for the kernel to be done with this one, even when this caller has given up by then.
    const quote = this.#lastQuote.then(() => this.#quote(reportData));
    this.#lastQuote = quote.catch(() => {});
    return withLimit(quote, quoteLimitMs, late("quote", quoteLimitMs));
  }

  bootLog(): Promise<Uint8Array> {
    return withLimit(this.#readBootLog(), readLimitMs, late("boot-log", readLimitMs));
  }

  async #readRegister(): Promise<Uint8Array> {
    const value = await readFile(this.#rtmr3);
    if (value.length !== registerSize) {
      throw new StageFailure(
        "platform/register-size",
        `${this.#rtmr3} has ${value.length} bytes, not ${registerSize}`,
      );
    }
    return value;
  }

  async #extend(digest: Uint8Array): Promise<void> {
    const expected = await extended(await this.#readRegister(), digest);
    await writeFile(this.#rtmr3, digest, { flag: "r+" });
    if (Buffer.compare(await this.#readRegister(), expected) !== 0) {
      throw new StageFailure(
        "platform/extend",
        "RTMR3 does not hold what was extended: something else wrote to it",
      );
    }
  }

  async #quote(reportData: Uint8Array): Promise<Uint8Array> {
    if (reportData.length !== reportDataSize) throw new Error(`report data is ${reportDataSize} bytes`);
    const entry = this.#entry;
    const generation = async () => Number((await readFile(join(entry, "generation"), "utf8")).trim());
    await mkdir(entry);
    try {
      const provider = (await readFile(join(entry, "provider"), "utf8")).trim();
      if (provider !== reportProviders[this.name])
        throw new StageFailure("platform/provider", `the report provider is '${provider}'`);
      const before = await generation();
      await writeFile(join(entry, "inblob"), reportData);
      const quote = await readBounded(join(entry, "outblob"), limits.quote, "platform/quote-size");
      const after = await generation();
      if (after !== before + 1) {
        throw new StageFailure(
          "platform/generation",
          `the report entry changed under us: ${before} → ${after}`,
        );
      }
      return quote;
    } catch (error) {
      if (error instanceof StageFailure) throw error;
      throw new StageFailure("platform/quote", `no quote from the host: ${messageOf(error)}`);
    } finally {
      await rmdir(entry);
    }
  }

  async #readBootLog(): Promise<Uint8Array> {
    const bytes = await readBounded(this.#bootLog, limits.bootLog, "platform/boot-log");
    // The CCEL table, which may be the host's, says which memory this is: nothing but a log leaves the guest.
    try {
      return bytes.subarray(0, parseEventLog(bytes).end);
    } catch (error) {
      if (!(error instanceof MeasureError)) throw error;
      throw new StageFailure("platform/boot-log", `${this.#bootLog} is not a boot log: ${error.message}`);
    }
  }
}
