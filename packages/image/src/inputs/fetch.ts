// SPDX-License-Identifier: Apache-2.0
/**
 * Fetches files by hash into a content-addressed cache: `CACHE/sha256/<hex>`.
 *
 * Invariants: a file has its final name only after its size and hash were checked (temporary file, then rename), and
 * its hash is checked again whenever it is handed out, so a damaged cache costs a new download, never a wrong image.
 * What a killed run left (`<hex>.<process id>.part`) is adopted by the next one and continued with a Range request.
 */
import { createHash } from "node:crypto";
import { constants, createReadStream } from "node:fs";
import { type FileHandle, open, readdir, rename, rm, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { ImageError } from "../errors.ts";
import { isRunning } from "../exclusive.ts";
import type { ArchiveName, Mirrors } from "./mirror.ts";

/** A file of the archive; a `LockedPackage` is one. */
export interface ArchiveFile {
  archive: ArchiveName;
  /** Below the archive's base URI. */
  path: string;
  size: number;
  /** Hex. */
  sha256: string;
}

export interface FetchProgress {
  /** Total bytes, and bytes fetched so far. */
  totalBytes: number;
  doneBytes: number;
  /** Over the last seconds. */
  bytesPerSecond: number;
  totalFiles: number;
  doneFiles: number;
}

export interface FetchOptions {
  mirrors: Mirrors;
  /** The cache directory; see `cacheDirectory`. */
  cache: string;
  /** Called a few times a second while something is fetched, and once at the end. */
  onProgress?: (progress: FetchProgress) => void;
  signal?: AbortSignal;
}

/** One file at one place. */
export interface Download {
  url: string;
  size: number;
  sha256: string;
  /** Asked for each request: what it carries may run out. */
  headers?: () => Promise<Readonly<Record<string, string>>>;
  /** What to do when the server no longer has it. */
  goneFix: string;
}

const fileCalls = new Set([
  "open",
  "write",
  "read",
  "rename",
  "mkdir",
  "scandir",
  "ftruncate",
  "stat",
  "fstat",
  "unlink",
]);
const parallel = 4;
const attempts = 3;
/** A connection that brings nothing for so long is given up. */
const stallMs = 30_000;

/** `CAISSON_CACHE`, or `caisson` below `XDG_CACHE_HOME` or `~/.cache`. */
export function cacheDirectory(environment: NodeJS.ProcessEnv): string {
  const { CAISSON_CACHE, XDG_CACHE_HOME } = environment;
  return CAISSON_CACHE || join(XDG_CACHE_HOME || join(homedir(), ".cache"), "caisson");
}

/** Where a file with this hash is in the cache. */
export function cachePath(cache: string, sha256: string): string {
  return join(cache, "sha256", sha256);
}

/** Failures of file system calls as an ImageError; undefined for all others (network errors have codes, too). */
export function diskError(error: unknown, cache: string): ImageError | undefined {
  const { code, syscall, message } = error as NodeJS.ErrnoException;
  if (code === undefined || syscall === undefined || !fileCalls.has(syscall)) return undefined;
  const full = code === "ENOSPC" || code === "EDQUOT";
  return new ImageError("fetch/disk", full ? `the disk of ${cache} is full` : `${cache}: ${message}`, {
    kind: "unavailable",
    fix: `${full ? "make room there" : "make it writable"}, or name another cache directory with CAISSON_CACHE`,
    cause: error,
  });
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

async function sizeOf(path: string): Promise<number | undefined> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  return found?.size;
}

/** Whether `path` is there with this size and hash. */
async function isWhole(path: string, size: number, sha256: string): Promise<boolean> {
  return (await sizeOf(path)) === size && (await sha256Of(path)) === sha256;
}

let partNumber = 0;

/** A part file for this download alone: what a dead process left of the same file, or a new name. */
async function adoptPart(directory: string, sha256: string): Promise<string> {
  const mine = join(directory, `${sha256}.${process.pid}.${partNumber++}.part`);
  for (const name of await readdir(directory)) {
    const left = /^([0-9a-f]{64})\.(\d+)\.\d+\.part$/.exec(name);
    if (left === null || left[1] !== sha256 || isRunning(Number(left[2]))) continue;
    try {
      await rename(join(directory, name), mine);
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error; // another process was quicker
    }
  }
  return mine;
}

function wrongSize({ url, size }: Download, is: "longer" | "shorter"): ImageError {
  return new ImageError("fetch/size", `${url} is ${is} than the ${size} bytes that it must have`, {
    fix: "another server: this one serves an altered or damaged file",
  });
}

function unreachable(url: string, failure: unknown): ImageError {
  return new ImageError("fetch/unreachable", `${url}: ${reasonOf(failure) || "no answer"}`, {
    kind: "unavailable",
    fix: "check the network, or name another server (a mirror: --mirror or CAISSON_MIRROR); then run this again",
    cause: failure,
  });
}

/** Asks for the file from byte `offset` on, and tells from where the answer is: `offset`, or 0. */
async function request(
  download: Download,
  offset: number,
  signal: AbortSignal,
): Promise<{ body: AsyncIterable<Uint8Array>; start: number }> {
  const { url, size } = download;
  const headers: Record<string, string> = {
    "accept-encoding": "identity",
    ...(await download.headers?.()),
  };
  if (offset > 0) headers["range"] = `bytes=${offset}-`;
  const response = await fetch(url, { headers, signal });
  const { status } = response;
  if (status === 404 || status === 410) {
    throw new ImageError("fetch/gone", `${url} is not there (HTTP ${status})`, { fix: download.goneFix });
  }
  const range = /^bytes (\d+)-\d+\/(?:\d+|\*)$/.exec(response.headers.get("content-range") ?? "");
  const start = status === 206 ? Number(range?.[1]) : 0;
  if ((status !== 200 && status !== 206) || (start !== 0 && start !== offset)) {
    throw new ImageError("fetch/status", `${url} answered HTTP ${status}`, {
      kind: "unavailable",
      fix: "try again later, or another server",
    });
  }
  if (start + Number(response.headers.get("content-length") ?? 0) > size) throw wrongSize(download, "longer");
  return { body: response.body ?? new Blob([]).stream(), start };
}

/** Continues `part` from its end until the connection ends, or breaks. `onBytes` may get a negative count. */
async function receive(
  download: Download,
  part: FileHandle,
  onBytes: (count: number) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const stall = new AbortController();
  const timer = setTimeout(() => stall.abort(new Error(`no data for ${stallMs / 1000} s`)), stallMs);
  try {
    const either = AbortSignal.any(signal === undefined ? [stall.signal] : [stall.signal, signal]);
    const have = (await part.stat()).size;
    const { body, start } = await request(download, have, either);
    if (start < have) await part.truncate(start);
    onBytes(start - have);
    let position = start;
    for await (const chunk of body) {
      timer.refresh();
      if (position + chunk.length > download.size) throw wrongSize(download, "longer");
      await part.write(chunk, 0, chunk.length, position);
      position += chunk.length;
      onBytes(chunk.length);
    }
  } finally {
    clearTimeout(timer);
  }
}

/** Receives the whole file into `path`; broken connections are taken up again, a few times. */
async function receiveAll(
  download: Download,
  path: string,
  onBytes: (count: number) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { url, size } = download;
  const part = await open(path, constants.O_RDWR | constants.O_CREAT, 0o644);
  let failure: unknown;
  try {
    for (let tries = 0; tries < attempts && (await part.stat()).size < size; tries++) {
      try {
        await receive(download, part, onBytes, signal);
        failure = undefined;
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof ImageError || diskError(error, path) !== undefined) throw error;
        failure = (error as Error).cause ?? error; // fetch wraps the reason
      }
    }
    if (failure !== undefined) throw unreachable(url, failure);
    if ((await part.stat()).size < size) {
      throw wrongSize(download, "shorter");
    }
  } finally {
    await part.close();
  }
}

/**
 * The path in the cache of one file, fetched when it is not there. `onBytes` is told of bytes as they come, and gets
 * a negative count when some were thrown away. Errors: ImageError `fetch/…`.
 */
export async function download(
  wanted: Download,
  cache: string,
  onBytes: (count: number) => void = () => {},
  signal?: AbortSignal,
): Promise<string> {
  const { url, size, sha256 } = wanted;
  const path = cachePath(cache, sha256);
  try {
    if (await isWhole(path, size, sha256)) {
      onBytes(size);
      return path;
    }
    const directory = dirname(path);
    makeDirectory(directory);
    const part = await adoptPart(directory, sha256);
    // What was taken over may be damaged: it gets one new start before the server is blamed.
    const adopted = (await sizeOf(part)) ?? 0;
    onBytes(adopted);
    for (let fresh = adopted === 0; ; fresh = true) {
      await receiveAll(wanted, part, onBytes, signal);
      const found = await sha256Of(part);
      if (found === sha256) break;
      onBytes(-(await sizeOf(part))!);
      await rm(part);
      if (fresh) {
        throw new ImageError("fetch/hash", `${url} is not the file that is pinned`, {
          facts: [
            ["SHA-256", found],
            ["expected", sha256],
          ],
          fix: "another server: this one serves an altered or damaged file",
        });
      }
    }
    await rename(part, path);
    return path;
  } catch (error) {
    throw diskError(error, cache) ?? error;
  }
}

/** A window of a few seconds over which the rate is taken. */
class Meter {
  private readonly samples: { at: number; bytes: number }[] = [];
  rate(bytes: number, now: number): number {
    this.samples.push({ at: now, bytes });
    while (this.samples.length > 2 && now - this.samples[0]!.at > 3000) this.samples.shift();
    const first = this.samples[0]!;
    return now === first.at ? 0 : Math.max(0, ((bytes - first.bytes) * 1000) / (now - first.at));
  }
}

/**
 * Makes sure that every file is in the cache and returns where: SHA-256 (hex) to path. What is already there is only
 * hashed. When one fails, the others are stopped. Errors: ImageError `fetch/…`; the signal's reason when aborted.
 */
export async function fetchAll(
  files: readonly ArchiveFile[],
  options: FetchOptions,
): Promise<Map<string, string>> {
  const { mirrors, cache, onProgress, signal } = options;
  const wanted = [...new Map(files.map((file) => [file.sha256, file])).values()];
  const totalBytes = wanted.reduce((sum, { size }) => sum + size, 0);
  let doneBytes = 0;
  const paths = new Map<string, string>();
  const meter = new Meter();
  const report = () =>
    onProgress?.({
      totalBytes,
      doneBytes,
      bytesPerSecond: meter.rate(doneBytes, performance.now()),
      totalFiles: wanted.length,
      doneFiles: paths.size,
    });
  const timer = setInterval(report, 250);
  const stop = new AbortController();
  const either = signal === undefined ? stop.signal : AbortSignal.any([stop.signal, signal]);
  const queue = wanted.values();
  const worker = async () => {
    for (const { archive, path, size, sha256 } of queue) {
      either.throwIfAborted();
      const url = `${mirrors[archive]}/${path.split("/").map(encodeURIComponent).join("/")}`;
      const goneFix = path.startsWith("pool/")
        ? "caisson lock, which pins what the mirror has now; or a mirror that keeps old files, with --mirror"
        : "another mirror, with --mirror or CAISSON_MIRROR";
      const onBytes = (count: number) => {
        doneBytes += count;
      };
      paths.set(sha256, await download({ url, size, sha256, goneFix }, cache, onBytes, either));
    }
  };
  try {
    const workers = Array.from({ length: parallel }, worker);
    await Promise.all(workers).catch(async (error: unknown) => {
      stop.abort(error);
      await Promise.allSettled(workers); // nothing writes any more when the caller is told
      throw error;
    });
    report();
    return paths;
  } finally {
    clearInterval(timer);
  }
}

/** A small file without a known hash (a signed index), at most `limit` bytes. Errors: ImageError `fetch/…`. */
export async function fetchSmall(url: string, limit: number, goneFix: string): Promise<Uint8Array> {
  const wanted: Download = { url, size: limit, sha256: "", goneFix };
  let failure: unknown;
  for (let tries = 0; tries < attempts; tries++) {
    try {
      const { body } = await request(wanted, 0, AbortSignal.timeout(stallMs));
      const chunks: Uint8Array[] = [];
      let size = 0;
      for await (const chunk of body) {
        size += chunk.length;
        if (size > limit) throw wrongSize(wanted, "longer");
        chunks.push(chunk);
      }
      return Buffer.concat(chunks);
    } catch (error) {
      if (error instanceof ImageError) throw error;
      failure = (error as Error).cause ?? error;
    }
  }
  throw unreachable(url, failure);
}
