/**
 * The platform adapter: the kernel's TSM measurement registers and configfs-tsm reports.
 *
 * On TDX the kernel's own driver stands behind these paths; in a development image on plain QEMU our emulation
 * driver does (`kernel/driver`). Same names, same sizes, same errors, hence one adapter. Sources: Linux
 * Documentation/ABI/testing/{sysfs-devices-virtual-misc-tdx_guest,configfs-tsm-report}.
 */
import { existsSync } from "node:fs";
import { mkdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { extend as extended } from "@caisson/measure";
import type { Platform, PlatformName } from "./platform.ts";
import { StageFailure } from "./stage.ts";

/** Where the kernel offers them; tests use a directory of their own. */
export interface TsmPaths {
  measurements: string;
  reports: string;
  ccel: string;
  tpmLog: string;
}

export const kernelPaths: TsmPaths = {
  measurements: "/sys/devices/virtual/misc/tdx_guest/measurements",
  reports: "/sys/kernel/config/tsm/report",
  ccel: "/sys/firmware/acpi/tables/data/CCEL",
  tpmLog: "/sys/kernel/security/tpm0/binary_bios_measurements",
};

const registerSize = 48;
const reportDataSize = 64;
/** The kernel waits 30 s for the host's quoting service (drivers/virt/coco/tdx-guest, GET_QUOTE_TIMEOUT). */
const quoteLimitMs = 40_000;
/** A quote fits the driver's shared buffer of 8 KiB (TDX_QUOTE_MAX_LEN); logs are at most 1 MiB. */
const quoteLimit = 8 * 1024;
const logLimit = 1024 * 1024;

/** `requester` names this user's own report entry, so that two requesters never share a generation counter. */
export function tsmPlatform(requester: string, paths: TsmPaths = kernelPaths): Platform {
  const name: PlatformName = existsSync(paths.ccel) ? "tdx" : "emulated";
  const register = (file: string) => join(paths.measurements, file);
  let lastQuote: Promise<unknown> = Promise.resolve();

  async function read(file: string): Promise<Uint8Array> {
    const value = await readFile(register(file));
    if (value.length !== registerSize) {
      throw new StageFailure(
        "platform/register-size",
        `${file} has ${value.length} bytes, expected ${registerSize}`,
      );
    }
    return value;
  }

  async function requestQuote(reportData: Uint8Array): Promise<Uint8Array> {
    if (reportData.length !== reportDataSize) throw new Error(`report data is ${reportDataSize} bytes`);
    const entry = join(paths.reports, requester);
    const generation = async () => Number((await readFile(join(entry, "generation"), "utf8")).trim());
    await mkdir(entry);
    try {
      const provider = (await readFile(join(entry, "provider"), "utf8")).trim();
      if (provider !== "tdx_guest")
        throw new StageFailure("platform/provider", `the report provider is '${provider}'`);
      const before = await generation();
      await writeFile(join(entry, "inblob"), reportData);
      const quote = await readFile(join(entry, "outblob"));
      const after = await generation();
      if (after !== before + 1) {
        throw new StageFailure(
          "platform/generation",
          `the report entry changed under us: ${before} → ${after}`,
        );
      }
      if (quote.length === 0 || quote.length > quoteLimit) {
        throw new StageFailure("platform/quote-size", `the host's quote has ${quote.length} bytes`);
      }
      return quote;
    } finally {
      await rmdir(entry);
    }
  }

  return {
    name,

    async registers() {
      const [mrtd, ...rtmr] = await Promise.all(
        ["mrtd:sha384", "rtmr0:sha384", "rtmr1:sha384", "rtmr2:sha384", "rtmr3:sha384"].map(read),
      );
      return { mrtd: mrtd!, rtmr: rtmr as [Uint8Array, Uint8Array, Uint8Array, Uint8Array] };
    },

    async extend(digest) {
      const expected = await extended(await read("rtmr3:sha384"), digest);
      await writeFile(register("rtmr3:sha384"), digest, { flag: "r+" });
      if (Buffer.compare(await read("rtmr3:sha384"), expected) !== 0) {
        throw new StageFailure(
          "platform/extend",
          "RTMR3 does not hold what was extended: something else wrote to it",
        );
      }
    },

    quote(reportData) {
      const quote = lastQuote.then(() => withLimit(requestQuote(reportData), quoteLimitMs));
      lastQuote = quote.catch(() => {});
      return quote;
    },

    async bootLog() {
      const log = await readFile(name === "tdx" ? paths.ccel : paths.tpmLog);
      if (log.length > logLimit)
        throw new StageFailure("platform/boot-log", `the boot log has ${log.length} bytes`);
      return log;
    },
  };
}

async function withLimit<T>(work: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new StageFailure("platform/quote-timeout", `no quote within ${ms / 1000} s`)),
      ms,
    );
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
  }
}
