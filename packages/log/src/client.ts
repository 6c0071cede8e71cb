// SPDX-License-Identifier: Apache-2.0
/** Where a log's static files are read from: a server, or the directory itself. Every answer is bounded. */
import { join } from "node:path";
import { type EntryKind, type Envelope, writeEnvelope } from "@caisson/releases";
import { firstBytes } from "@caisson/vocabulary/body";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { LogServiceError } from "./errors.ts";
import { readIfThere } from "./files.ts";

export interface LogSource {
  /** For messages. */
  name: string;
  /** A file of at most `limit` bytes; undefined where there is none. Throws LogServiceError "log-service/unreachable". */
  read(path: string, limit: number): Promise<Uint8Array | undefined>;
}

const requestLimitMs = 20_000;

/** A log served over HTTP. */
export function fetchLog(url: string): LogSource {
  const base = url.endsWith("/") ? url : `${url}/`;
  return {
    name: url,
    async read(path, limit) {
      try {
        const response = await fetch(new URL(path, base), {
          redirect: "error",
          signal: AbortSignal.timeout(requestLimitMs),
        });
        if (response.status === 404) {
          await response.body?.cancel();
          return undefined;
        }
        if (!response.ok) throw new Error(`it answers ${response.status}`);
        const { bytes, more } = await firstBytes(response.body, limit);
        if (more) throw new Error(`it sends more than ${limit} bytes`);
        return bytes;
      } catch (error) {
        throw new LogServiceError("log-service/unreachable", `${url}: ${path}: ${reasonOf(error)}`, {
          fix: "see whether the log is served there",
          cause: error,
        });
      }
    },
  };
}

/** Sends a document to a log; its index. Throws LogServiceError "log-service/unreachable", "log-service/refused". */
export async function addToLog(
  url: string,
  kind: EntryKind,
  app: string,
  envelope: Envelope,
): Promise<number> {
  let status: number;
  let text: string;
  try {
    const response = await fetch(new URL("add", url.endsWith("/") ? url : `${url}/`), {
      method: "POST",
      body: JSON.stringify({ kind, app, envelope: writeEnvelope(envelope) }),
      redirect: "error",
      signal: AbortSignal.timeout(requestLimitMs),
    });
    status = response.status;
    text = new TextDecoder().decode((await firstBytes(response.body, 4096)).bytes);
  } catch (error) {
    throw new LogServiceError("log-service/unreachable", `${url}: ${reasonOf(error)}`, {
      fix: "see whether the log is served there",
      cause: error,
    });
  }
  if (status === 200) {
    const { index } = JSON.parse(text) as { index?: unknown };
    if (Number.isSafeInteger(index)) return index as number;
  }
  throw new LogServiceError("log-service/refused", `the log does not take it: ${text.slice(0, 500).trim()}`);
}

/** A log's own directory, or a copy of it. */
export const openLogDirectory = (directory: string): LogSource => ({
  name: directory,
  read(path, limit) {
    const bytes = readIfThere(join(directory, path));
    if (bytes !== undefined && bytes.length > limit) {
      throw new LogServiceError("log-service/damaged", `${path} is larger than ${limit} bytes`);
    }
    return Promise.resolve(bytes);
  },
});
