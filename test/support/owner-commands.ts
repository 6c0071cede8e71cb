// SPDX-License-Identifier: Apache-2.0
/** People who do everything by the commands of docs/releases.md, in a directory with their files. */
import { equal, match } from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";

const cli = new URL("../../packages/cli/src/main.ts", import.meta.url).pathname;

/** Passphrase and key, for whatever signs. */
const under = "--passphrase-file pass";

export class OwnerCommands {
  readonly place: string;
  readonly #served: ChildProcess[] = [];
  readonly #limitMs: number;

  /** `place`: an empty directory, in which every file of a command line lies; `limitMs` bounds each command. */
  constructor(place: string, limitMs = 600_000) {
    this.place = place;
    this.#limitMs = limitMs;
    writeFileSync(join(place, "pass"), "correct horse battery\n", { mode: 0o600 });
  }

  #start(line: string, more: readonly string[], limitMs = this.#limitMs): ChildProcess {
    return spawn(process.execPath, [cli, ...line.split(" "), ...more], {
      cwd: this.place,
      stdio: ["ignore", "pipe", "pipe"],
      timeout: limitMs,
    });
  }

  async #ended(line: string, more: string[]) {
    const child = this.#start(line, more);
    const status = new Promise<number | null>((resolve) => child.once("close", resolve));
    const [stdout, stderr] = await Promise.all([text(child.stdout!), text(child.stderr!)]);
    return { status: await status, stdout, stderr };
  }

  /** What a command prints that ends with this status. */
  async says(status: number, line: string): Promise<string> {
    const run = await this.#ended(line, []);
    equal(run.status, status, `${line}: ${run.stdout}${run.stderr}`);
    return run.stdout;
  }

  /** What a command prints that ends well; words of `line` are arguments, and so is each of `more`. */
  async run(line: string, ...more: string[]): Promise<string> {
    const { status, stdout, stderr } = await this.#ended(line, more);
    equal(status, 0, `${line}: ${stdout}${stderr}`);
    return stdout.trim();
  }

  /** That a command ends with this status and this code, if it is not that of a wrong call; what it says. */
  async refused(status: number, code: string, line: string): Promise<string> {
    const run = await this.#ended(line, []);
    equal(run.status, status, `${line}: ${run.stdout}${run.stderr}`);
    if (code !== "") match(run.stderr, new RegExp(`\\[${code}\\]`));
    return run.stderr;
  }

  /** Starts a command that serves until `end`; its address. */
  async serve(line: string): Promise<string> {
    // As long as all the commands that ask it.
    const child = this.#start(`${line} --listen 127.0.0.1:0`, [], 10 * this.#limitMs);
    this.#served.push(child);
    child.stderr!.pipe(process.stderr);
    for await (const said of createInterface({ input: child.stdout! })) {
      const url = /^serves (\S+)$/.exec(said)?.[1];
      if (url !== undefined) return url;
    }
    throw new Error(`${line} ended before it served`);
  }

  /** A key for each name; its public half by name. */
  async keys<Name extends string>(...names: Name[]): Promise<Record<Name, string>> {
    const made = await Promise.all(
      names.map(async (name) => [name, await this.run(`owner new ${name} ${under}`)]),
    );
    return Object.fromEntries(made) as Record<Name, string>;
  }

  /** Each of the keys signs the file, one after the other. */
  async sign(what: "identity" | "release" | "secrets", file: string, ...keys: string[]): Promise<void> {
    for (const key of keys) await this.run(`${what} sign ${file} --key ${key} ${under}`);
  }

  /** Builds a release again; more options as one text. */
  rebuild(release: string, key: string, options: string): string {
    return `rebuild ${release} --key ${key} ${under} ${options}`;
  }

  async end(): Promise<void> {
    await Promise.all(
      this.#served.splice(0).map((child) => {
        const ended = new Promise((resolve) => child.once("exit", resolve));
        child.kill("SIGTERM");
        return ended;
      }),
    );
  }
}
