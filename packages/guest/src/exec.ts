// SPDX-License-Identifier: Apache-2.0
/**
 * `caisson exec`: programs beside the services of a development machine, and its live report, for whoever started it. Only
 * the program of development images has this (`main-development.ts`); production's does not contain it.
 */
import { timingSafeEqual } from "node:crypto";
import { closeSync, rmSync, writeFileSync } from "node:fs";
import { createServer, Socket } from "node:net";
import { join } from "node:path";
import { ExecReader, type ExecRequest, encodeFrames, execPort, type FrameKind } from "@caisson/protocol/exec";
import { messageOf } from "@caisson/vocabulary/failure";
import { liveReport } from "./live.ts";
import { processOf } from "./sandbox.ts";
import type { Prepared } from "./services/launch.ts";
import { endTree } from "./services/processes.ts";
import { ending, lastWords, start } from "./services/runtime.ts";
import type { Context } from "./stage.ts";
import type { Syscalls } from "./syscalls.ts";

const requestLimitMs = 10_000;
const atOnce = 8;

/** Serves those who know the token of the instance document; without one, nobody. */
export function serveExec(context: Context, services: ReadonlyMap<string, Prepared>): void {
  const token = context.instance?.exec;
  if (token === undefined || context.config.flavour !== "development") return;
  const server = createServer((socket) => void serve(context.syscalls, services, token, socket));
  server.maxConnections = atOnce;
  server.on("error", (error) => context.log(`exec: ${messageOf(error)}`));
  server.listen(execPort);
}

async function serve(
  syscalls: Syscalls,
  services: ReadonlyMap<string, Prepared>,
  token: string,
  socket: Socket,
): Promise<void> {
  const say = (kind: FrameKind, bytes: Uint8Array): boolean =>
    socket.writable && socket.write(encodeFrames(kind, bytes));
  const reader = new ExecReader();
  const late = setTimeout(() => socket.destroy(), requestLimitMs);
  socket.on("error", () => socket.destroy());
  try {
    const request = await new Promise<ExecRequest>((resolve, reject) => {
      socket.on("data", (bytes: Buffer) => {
        reader.push(bytes);
        try {
          const whole = reader.request();
          if (whole === undefined) return;
          socket.pause().removeAllListeners("data");
          resolve(whole);
        } catch (error) {
          reject(error);
        }
      });
      socket.once("close", () => reject(new Error("it went away")));
    });
    clearTimeout(late);
    if (!timingSafeEqual(Buffer.from(request.token, "hex"), Buffer.from(token, "hex")))
      throw new Error("the token is not this machine's");
    if ("report" in request) {
      say("output", Buffer.from(JSON.stringify(liveReport("/", syscalls))));
      say("status", Buffer.of(0));
      return;
    }
    const name = request.service ?? [...services.keys()][0]!;
    const prepared = services.get(name);
    if (prepared === undefined) {
      throw new Error(`there is no service '${name}'; there are ${[...services.keys()].join(", ")}`);
    }
    say("status", Buffer.of(await execute(syscalls, prepared, request.arguments, socket, reader, say)));
  } catch (error) {
    say("refused", Buffer.from(messageOf(error)));
  } finally {
    clearTimeout(late);
    socket.end();
  }
}

/** Sends a frame; false when whoever asked has not read what came before. */
type Say = (kind: FrameKind, bytes: Uint8Array) => boolean;

let numbered = 0;

/** Sends what a program writes to `fd`; ends when it has closed it, or the socket is. */
function passOn(kind: FrameKind, fd: number, socket: Socket, say: Say): Promise<unknown> {
  const stream = new Socket({ fd, readable: true, writable: false });
  stream.on("data", (bytes: Buffer) => {
    if (say(kind, bytes)) return;
    // Whoever reads slowly holds up the program alone.
    stream.pause();
    socket.once("drain", () => stream.resume());
  });
  socket.once("close", () => stream.destroy());
  return new Promise((resolve) => stream.once("close", resolve));
}

/** Writes what has come for the program's input; an empty frame ends it. Throws RangeError for any other frame. */
function takeInput(reader: ExecReader, standardInput: Socket): void {
  for (let frame = reader.frame(); frame !== undefined; frame = reader.frame()) {
    if (frame.kind !== "input") throw new RangeError("only input is sent");
    if (frame.bytes.length === 0) standardInput.end();
    else standardInput.write(frame.bytes);
  }
}

/** Runs a program in a service's sandbox, as its user, within its limits; the status with which it ended. */
async function execute(
  syscalls: Syscalls,
  { place, service }: Prepared,
  args: readonly string[],
  socket: Socket,
  reader: ExecReader,
  say: Say,
): Promise<number> {
  const number = ++numbered;
  const at = (suffix: string): string => join(place.directory, `exec-${number}.${suffix}`);
  const [file, log] = [at("json"), at("log")];
  writeFileSync(file, JSON.stringify(processOf(service, args)));
  const pipes = [syscalls.pipe(), syscalls.pipe(), syscalls.pipe()] as const;
  const [input, output, errors] = pipes;
  const standardInput = new Socket({ fd: input[1], readable: false, writable: true });
  standardInput.on("error", () => standardInput.destroy());
  const ends = [passOn("output", output[0], socket, say), passOn("errors", errors[0], socket, say)];
  const take = (): void => takeInput(reader, standardInput);
  try {
    let pid: number;
    try {
      const words = ["exec", "--process", file, place.id];
      pid = start(syscalls, place, log, words, [input[0], output[1], errors[1]]);
    } finally {
      for (const end of [input[0], output[1], errors[1]]) closeSync(end);
    }
    socket.on("data", (bytes: Buffer) => {
      reader.push(bytes);
      try {
        take();
      } catch {
        socket.destroy();
      }
    });
    let over = false;
    socket.once("close", () => {
      if (!over) void endTree(pid);
    });
    take();
    socket.resume();
    const status = await ending(syscalls, pid);
    over = true;
    await Promise.all(ends);
    const said = lastWords(log);
    if (said !== undefined) say("errors", Buffer.from(`${said}\n`));
    return status;
  } finally {
    standardInput.destroy();
    for (const path of [file, log]) rmSync(path, { force: true });
  }
}
