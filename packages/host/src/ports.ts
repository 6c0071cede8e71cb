// SPDX-License-Identifier: Apache-2.0
/**
 * Ports of loopback that were free a moment ago, for programs that cannot be given 0. They are not those that the kernel
 * gives to outgoing connections and to whoever asks for any port, so that only another caller of this can take one.
 */
import { randomInt } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer } from "node:net";
import { HostError } from "./errors.ts";

/** Below what Linux gives to outgoing connections (ip_local_port_range, 32768 to 60999 when nobody changed it). */
const ports = { first: 10_000, count: 22_000 };

/** How many ports are tried: where half of them are taken, none of so many is free once in 2^64 times. */
const tries = 64;

/** A port of `ports` on which `listen` succeeded just now. Throws HostError "host/unsupported" where none is free. */
async function freePort(listen: (port: number) => Promise<void>): Promise<number> {
  for (let i = 0; i < tries; i++) {
    const port = ports.first + randomInt(ports.count);
    try {
      await listen(port);
      return port;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
    }
  }
  const range = `${ports.first} to ${ports.first + ports.count - 1}`;
  throw new HostError("host/unsupported", `${tries} ports of 127.0.0.1 from ${range} are all taken`, {
    fix: "ss -lntup, and end what holds them",
  });
}

export const freeTcpPort = (): Promise<number> =>
  freePort(async (port) => {
    const server = createServer();
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    await new Promise((resolve) => server.close(resolve));
  });

export const freeUdpPort = (): Promise<number> =>
  freePort(async (port) => {
    const socket = createSocket("udp4");
    socket.bind(port, "127.0.0.1");
    await once(socket, "listening");
    await new Promise<void>((resolve) => socket.close(resolve));
  });
