// SPDX-License-Identifier: Apache-2.0
/**
 * What happens when nobody reads on, or the disk behind stdout is full.
 *
 * A reader that goes away (`caisson … | head`) ends the command without a word, as SIGPIPE ends others: exit code 141,
 * so that nobody takes it for an answer. Every other failure to write is an error with its reason. A command that has
 * something to end (a machine, a build) listens for SIGTERM; then it gets that, and ends it first.
 */
import { Failure } from "@caisson/vocabulary/failure";
import { readerGone } from "./exit-codes.ts";
import { renderError } from "./failure.ts";

const failed = 1;

class OutputError extends Failure<"cli/output", "internal"> {
  override readonly name = "OutputError";
  constructor({ message, code }: NodeJS.ErrnoException) {
    super("cli/output", "internal", `the output cannot be written: ${message}`, {
      fix: code === "ENOSPC" ? "make room where it goes, or send it elsewhere" : "send it elsewhere",
    });
  }
}

/** Watches stdout and stderr. Returns whether the output has failed: then there is nothing to say any more. */
export function guardOutput(subject: string): () => boolean {
  let code: number | undefined;
  const end = (status: number): void => {
    code = status;
    process.once("exit", () => {
      process.exitCode = status;
    });
    if (process.listenerCount("SIGTERM") > 0) process.kill(process.pid, "SIGTERM");
    else process.exit(status);
  };
  const listen = (stream: NodeJS.WriteStream): void => {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (code !== undefined) return;
      if (error.code === "EPIPE") return end(readerGone);
      if (stream === process.stdout) process.stderr.write(renderError(subject, new OutputError(error)));
      end(failed);
    });
  };
  listen(process.stdout);
  listen(process.stderr);
  return () => code !== undefined;
}
