/**
 * An output directory that appears whole or not at all.
 *
 * Invariants: each process fills a hidden directory of its own beside the place, and renames it; one process fills it
 * at a time; what a killed process left is removed by the next one.
 */
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { ImageError } from "./errors.ts";

/**
 * Makes or replaces `out` with what `fill` writes into the empty directory that it is given. Throws what `fill`
 * throws, then leaving `out` as it was; ImageError `build/busy` when another process is filling `out`, `build/disk`
 * when there is no room.
 */
export async function replaceOutput<T>(out: string, fill: (directory: string) => Promise<T>): Promise<T> {
  const place = dirname(out);
  await mkdir(place, { recursive: true });
  const release = await claim(out);
  const scratch = join(place, `.${basename(out)}.${process.pid}.new`);
  try {
    await removeAbandoned(out);
    await mkdir(scratch);
    const result = await fill(scratch);
    await swap(scratch, out);
    return result;
  } catch (error) {
    const { code = "", path } = error as NodeJS.ErrnoException;
    if (!["ENOSPC", "EDQUOT"].includes(code)) throw error;
    throw new ImageError("build/disk", `there is no room to make ${out}`, {
      kind: "internal",
      facts: path === undefined ? [] : [["writing", path]],
      fix: "free some space, or build elsewhere with --out",
      cause: error,
    });
  } finally {
    await rm(scratch, { recursive: true, force: true });
    await release();
  }
}

/** Removes what killed processes were filling. */
async function removeAbandoned(out: string): Promise<void> {
  for (const name of await readdir(dirname(out))) {
    if (!name.startsWith(`.${basename(out)}.`)) continue;
    const pid = Number(/\.(\d+)\.new$/.exec(name)?.[1]);
    if (pid === process.pid || (pid > 0 && !isAlive(pid))) {
      await rm(join(dirname(out), name), { recursive: true, force: true });
    }
  }
}

/** Puts `scratch` in the place of `out`. A kill in between leaves `out` absent, never half of it. */
async function swap(scratch: string, out: string): Promise<void> {
  const old = join(dirname(out), `.${basename(out)}.old`);
  await rm(old, { recursive: true, force: true });
  await rename(out, old).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  await rename(scratch, out);
  await rm(old, { recursive: true, force: true });
}

/**
 * Makes this process the only one that builds `out`: a file beside it with the process id, taken over when that
 * process is gone. Returns what gives it up. Throws ImageError `build/busy`.
 */
async function claim(out: string): Promise<() => Promise<void>> {
  const path = join(dirname(out), `.${basename(out)}.lock`);
  for (let tries = 0; tries < 3; tries++) {
    try {
      await writeFile(path, String(process.pid), { flag: "wx" });
      return () => rm(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const owner = Number(await readFile(path, "utf8").catch(() => "0"));
    if (owner !== process.pid && isAlive(owner)) {
      throw new ImageError("build/busy", `process ${owner} is building ${out}`, {
        kind: "usage",
        fix: `wait for it, or build elsewhere with --out`,
      });
    }
    await rm(path, { force: true });
  }
  throw new ImageError("build/busy", `other builds of ${out} keep starting`, { kind: "usage" });
}

function isAlive(pid: number): boolean {
  if (pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
