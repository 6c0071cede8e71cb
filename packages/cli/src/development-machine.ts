// SPDX-License-Identifier: Apache-2.0
/**
 * A development machine that `caisson up` started here: where it is asked for programs beside its services, and for its
 * report.
 */
import { existsSync, readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { imageDirectory, readSpec } from "@caisson/image";
import { readManifest } from "@caisson/image/manifest";
import { execFile } from "@caisson/machine/state";
import { ExecReader, type ExecRequest, encodeFrames, encodeRequest } from "@caisson/protocol/exec";
import { UsageError } from "./failure.ts";

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

/** One that runs, and the names of its services. */
export interface DevelopmentMachine {
  services: string[];
  /** Does one thing there; the status with which it ended. Throws UsageError. */
  ask: (request: Asked, streams: Streams) => Promise<number>;
}

type Asked = ExecRequest extends infer Request
  ? Request extends object
    ? Omit<Request, "token">
    : never
  : never;

/** The machine of a spec. Throws UsageError when it does not run on this machine, and what reading the spec throws. */
export async function developmentMachine(spec: string): Promise<DevelopmentMachine> {
  const image = imageDirectory(await readSpec(spec), "development");
  const place = join(`${image}.state`, execFile);
  if (!existsSync(place)) throw new UsageError(`${spec} does not run on this machine`, `caisson up ${spec}`);
  const { port, token } = JSON.parse(readFileSync(place, "utf8")) as { port: number; token: string };
  return {
    services: Object.keys(readManifest(image).guest.app.services),
    ask: async (request, streams) => {
      const socket = connect(port, "127.0.0.1");
      try {
        return await carry(socket, { token, ...request }, streams);
      } finally {
        socket.destroy();
      }
    },
  };
}

/** What the guest of a spec sees of itself, as it says it. Throws UsageError. */
export async function liveReportOf(spec: string): Promise<string> {
  const { ask } = await developmentMachine(spec);
  const stdout = new PassThrough();
  const report = text(stdout);
  await ask({ report: "live" }, { stdin: Readable.from([]), stdout, stderr: process.stderr });
  stdout.end();
  return report;
}
