// SPDX-License-Identifier: Apache-2.0
/** WebSockets: a connection that the application upgrades is joined to the client's, byte for byte. */
import type { ClientRequest, IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { type FrontRefusal, isOurs, target } from "./exchange.ts";
import { contentLength, towardsApplication, towardsClient } from "./headers.ts";
import type { Upstream } from "./upstream.ts";

export class Upgrades {
  readonly #require: "tls" | "encrypted";
  readonly #upstream: Upstream;

  /** "encrypted": none is upgraded, for the application gets sealed requests only. */
  constructor(require: "tls" | "encrypted", upstream: Upstream) {
    this.#require = require;
    this.#upstream = upstream;
  }

  pass(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const fail = (status: number): void => {
      socket.end(`HTTP/1.1 ${status} Refused\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
    };
    socket.on("error", () => socket.destroy());
    let where: ReturnType<typeof target>;
    try {
      where = target(request);
    } catch (error) {
      return fail((error as FrontRefusal).status);
    }
    if (isOurs(where.path)) return fail(404);
    if (this.#require === "encrypted") return fail(403);
    const headers = towardsApplication(request.rawHeaders, {
      way: "tls",
      address: request.socket.remoteAddress ?? "",
      host: where.host,
      skip: contentLength,
    });
    let asked: ClientRequest;
    try {
      asked = this.#upstream.start({
        method: "GET",
        path: where.path,
        headers: [...headers, "Connection", "Upgrade", "Upgrade", "websocket"],
      });
    } catch {
      return fail(503);
    }
    asked.once("error", () => fail(502));
    // A client that does not wait keeps no connection to the application. Nobody reads from it yet: its end is looked for.
    const look = (): void => void socket.read(0);
    const gone = (): void => void asked.destroy();
    socket.on("readable", look).once("end", gone).once("close", gone);
    asked.once("response", (found) => {
      found.resume();
      fail(found.statusCode!);
    });
    asked.once("upgrade", (found, behind, first) => {
      socket.off("readable", look).off("end", gone);
      const raw = towardsClient(found.rawHeaders);
      const lines = raw.flatMap((name, i) => (i % 2 === 0 ? [`${name}: ${raw[i + 1]}\r\n`] : []));
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${lines.join("")}\r\n`,
      );
      socket.write(first);
      behind.write(head);
      join(socket, behind);
      join(behind, socket);
      if (socket.destroyed) behind.destroy();
    });
  }
}

/** One direction; either end's end is the other's. */
function join(from: Duplex, to: Duplex): void {
  from.pipe(to);
  from.once("error", () => to.destroy());
  from.once("close", () => to.destroy());
}
