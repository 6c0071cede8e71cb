/** Evidence of this machine: one self-contained document, `caisson/evidence/v1`. */
import { type ReportDataScheme, reportData } from "@caisson/verify/report-data";
import type { Evidence } from "@caisson/verify";
import type { EventLog } from "./event-log.ts";
import type { Platform } from "./platform.ts";

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

export type Attest = (scheme: ReportDataScheme, fields: Record<string, Uint8Array>) => Promise<Evidence>;

/** Returns the function that makes evidence over report data of a scheme; every call asks for a fresh quote. */
export function attester(platform: Platform, log: EventLog): Attest {
  return async (scheme, fields) => {
    const quote = await platform.quote(await reportData(scheme, fields));
    return {
      version: "caisson/evidence/v1",
      platform: platform.name,
      quote: base64(quote),
      bootLog: base64(await platform.bootLog()),
      runtimeEvents: log.events.map(({ name, payload }) => ({ name, payload: hex(payload) })),
      reportData: { scheme, fields: Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, hex(value)])) },
    };
  };
}
