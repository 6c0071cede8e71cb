// SPDX-License-Identifier: Apache-2.0
/** A stranger's terminal: the commands of the walk, run as a person runs them, in a directory of their own. */
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";

export const repository = new URL("../../", import.meta.url).pathname;
export const hello = join(repository, "examples/hello");

export interface Said {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** A directory that ends with the tests, and `caisson` in it. */
export function stranger() {
  const place = temporaryDirectory("walk");
  const at = (path: string): string => join(place, path);
  return {
    at,
    put: (path: string, content: string): string => {
      mkdirSync(dirname(at(path)), { recursive: true });
      writeFileSync(at(path), content);
      return at(path);
    },
    /** A service of one JavaScript file with the packages of `examples/hello`. */
    service: (name: string, script: string, lines = ""): string => {
      const archive = /^archive:\n(?: .*\n)+/m.exec(readFileSync(join(hello, "caisson.yaml"), "utf8"))![0];
      const directory = at(name);
      mkdirSync(directory, { recursive: true });
      writeFileSync(join(directory, "server.mjs"), script);
      writeFileSync(
        join(directory, "caisson.yaml"),
        `version: 1\nname: ${name}\n${archive}\napp:\n  node: ./server.mjs\n${lines}`,
      );
      cpSync(join(hello, "caisson.lock"), join(directory, "caisson.lock"));
      return directory;
    },
    /** Runs the command; nothing of it may end in a stack, whatever happens. */
    caisson: async (...args: string[]): Promise<Said> => {
      const child = spawn(join(repository, "caisson"), args, {
        cwd: place,
        stdio: ["ignore", "pipe", "pipe"],
        env: { ...process.env, NO_COLOR: "1" },
      });
      const status = new Promise<number | null>((resolve) => child.once("close", resolve));
      const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
      if (/internal error|\n {4}at /.test(stderr)) throw new Error(`caisson ${args.join(" ")}: ${stderr}`);
      return { status: await status, stdout, stderr };
    },
  };
}
