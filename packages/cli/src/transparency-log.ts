// SPDX-License-Identifier: Apache-2.0
/** Transparency logs and their witnesses, as they are named on a command line. */
import { existsSync } from "node:fs";
import type { LogSource, WitnessAddress } from "@caisson/log";
import { UsageError } from "./failure.ts";

/** Where a log is read: an address, or a directory with its files. */
export async function openTransparencyLog(place: string): Promise<LogSource> {
  const { fetchLog, openLogDirectory } = await import("@caisson/log");
  if (/^https?:\/\//.test(place)) return fetchLog(place);
  if (existsSync(place)) return openLogDirectory(place);
  throw new UsageError(
    `${place} is neither an address nor a directory`,
    "http://HOST:PORT/, or the log's directory",
  );
}

export async function readWitness(text: string): Promise<WitnessAddress> {
  const { readNoteKey } = await import("@caisson/releases");
  const at = text.lastIndexOf("=", text.indexOf("+"));
  if (at < 1) throw new UsageError(`'${text}' is not a witness`, "--witness URL=NAME+ID+KEY");
  return { url: text.slice(0, at), key: await readNoteKey(text.slice(at + 1)) };
}
