// SPDX-License-Identifier: Apache-2.0
/** `caisson exec SPEC SERVICE -- COMMAND`: a program beside a service of a development machine that `up` started here. */
import { existsSync, readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { imageDirectory, type Manifest, readSpec } from "@caisson/image";
import { execFile } from "@caisson/machine/state";
import { ExecReader, encodeFrames, encodeRequest } from "@caisson/protocol/exec";
import { Command } from "commander";
import { UsageError } from "../failure.ts";

interface Streams {
  stdin: NodeJS.ReadableStream;
  stdout: NodeJS.WritableStream;
  stderr: NodeJS.WritableStream;
}

/** Sends a request over a connection and carries the streams; the status with which the program ended. Throws UsageError. */
export function carry(
  socket: Socket,
  request: Parameters<typeof encodeRequest>[0],
  { stdin, stdout, stderr }: Streams,
): Promise<number> {
  const reader = new ExecReader();
  const outcome = Promise.withResolvers<number>();
  socket.write(encodeRequest(request));
  socket.on("data", (bytes) => {
    try {
      reader.push(bytes as Buffer);
      for (let frame = reader.frame(); frame !== undefined; frame = reader.frame()) {
        if (frame.kind === "output") stdout.write(frame.bytes);
        else if (frame.kind === "errors") stderr.write(frame.bytes);
        else if (frame.kind === "status") outcome.resolve(frame.bytes[0] ?? 1);
        else if (frame.kind === "refused") {
          outcome.reject(new UsageError(`the machine refuses: ${frame.bytes.toString()}`, "caisson ps SPEC"));
        }
      }
    } catch (error) {
      outcome.reject(error);
    }
  });
  const gone = (): void => {
    outcome.reject(
      new UsageError("the machine does not answer", "wait until `caisson up` says that it runs"),
    );
  };
  socket.once("error", gone).once("close", gone);
  stdin.on("data", (bytes) => {
    if (socket.write(encodeFrames("input", bytes as Buffer))) return;
    stdin.pause();
    socket.once("drain", () => stdin.resume());
  });
  stdin.once("end", () => socket.write(encodeFrames("input", new Uint8Array())));
  return outcome.promise;
}

/** Whom the words after a spec name: with several services the first is the service's name. */
export function split(words: readonly string[], services: readonly string[]): [string, string[]] {
  if (services.length === 1 && words[0] !== services[0]) return [services[0]!, [...words]];
  const [service = "", ...command] = words;
  if (!services.includes(service)) {
    throw new UsageError(`there is no service '${service}'`, `one of ${services.join(", ")}, then a command`);
  }
  return [service, command];
}

export const command = new Command("caisson exec")
  .description(
    "Runs a command beside a service of a development machine, as its user and within its limits. Its status is the command's. Production images have no such thing.",
  )
  .argument("<spec>", "a caisson.yaml, or the directory that has one")
  .argument("<words...>", "the service, where there are several, and the command with its arguments")
  .passThroughOptions()
  .action(async (path: string, words: string[]) => {
    const image = imageDirectory(await readSpec(path), "development");
    const place = join(`${image}.state`, execFile);
    if (!existsSync(place))
      throw new UsageError(`${path} does not run on this machine`, `caisson up ${path}`);
    const { guest } = JSON.parse(readFileSync(join(image, "manifest.json"), "utf8")) as Manifest;
    const [service, args] = split(words, Object.keys(guest.app.services));
    if (args.length === 0)
      throw new UsageError("there is no command to run", "caisson exec SPEC SERVICE COMMAND");
    const { port, token } = JSON.parse(readFileSync(place, "utf8")) as { port: number; token: string };
    const socket = connect(port, "127.0.0.1");
    try {
      process.exitCode = await carry(socket, { token, service, arguments: args }, process);
    } finally {
      socket.destroy();
      process.stdin.destroy();
    }
  });
