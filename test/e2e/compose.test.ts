/** `caisson up` with the services of a compose file: they find each other, and only what is published is reached. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { promisify } from "node:util";

const repository = new URL("../../", import.meta.url).pathname;
const caisson = join(repository, "caisson");
const example = "examples/compose";

/** What a command of this machine prints on stdout. */
const said = async (...args: string[]): Promise<string> =>
  (await promisify(execFile)(caisson, args, { cwd: repository })).stdout;

test("a front and a store: healthy in order, by name, one published, one not; ps and logs say so", async () => {
  const child = spawn(caisson, ["up", example, "--json"], {
    cwd: repository,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const status = new Promise<number | null>((resolve) => {
    child.once("exit", resolve);
  });
  let stderr = "";
  const output = text(child.stdout);
  try {
    const url = await new Promise<string>((resolve, reject) => {
      child.stderr.setEncoding("utf8").on("data", (piece: string) => {
        stderr += piece;
        const found = /shop answers at (\S+)/.exec(stderr);
        if (found !== null) resolve(found[1]!);
      });
      child.once("exit", () => reject(new Error(stderr)));
    });
    const visits = async () => Number(/^Visits: (\d+)\n$/.exec(await (await fetch(url)).text())?.[1]);
    const first = await visits();
    ok(first >= 1);
    equal(await visits(), first + 1);

    const { services } = JSON.parse(await said("ps", example, "--json")) as {
      services: { service: string; state: string; starts: number; ports: string[] }[];
    };
    deepEqual(
      services.map(({ service, state, starts, ports }) => [service, state, starts, ports]),
      [
        ["store", "healthy", 1, []],
        ["web", "running", 1, ["8080→8080/tcp"]],
      ],
    );
    match(
      await said("logs", example),
      /store \| the store listens on port 6379\n.*web \| the front listens on port 8080\n/s,
    );
    equal(await said("logs", example, "store").then((lines) => / web /.test(lines)), false);

    // What an outsider finds: evidence of the whole machine, over the one port that is published.
    const evidence = new URL("/.well-known/caisson/evidence?nonce=0123456789abcdef", url);
    equal(((await (await fetch(evidence)).json()) as { version: string }).version, "caisson/evidence/v1");
    await rejects(fetch(`http://127.0.0.1:6379/`));
  } finally {
    child.kill("SIGINT");
  }
  equal(await status, 0, stderr);
  const { verification } = JSON.parse(await output) as { verification: { verdict: string } };
  equal(verification.verdict, "accepted");
});
