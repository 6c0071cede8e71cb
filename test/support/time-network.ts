// SPDX-License-Identifier: Apache-2.0
/**
 * A network between time clients and servers on loopback: delay, loss, and paths that differ by direction.
 *
 * TCP is relayed, so the kernel's handshake and retransmissions are not on the emulated path; they are emulated: the
 * first bytes of the client are held back for the round trip that the handshake would have taken, and a lost segment
 * arrives late, by the kernel's first timeout for a SYN (1 s, RFC 6298) or for data (200 ms or two round trips).
 */
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { connect, createServer, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

export interface PathOptions {
  /** A loopback address of its own; servers are at 127.0.0.1 with the same ports. */
  address: string;
  kePort: number;
  ntpPort: number;
  /** Milliseconds there and back. */
  rtt: number;
  /** Part of the packets that are lost, 0 to 1. */
  loss?: number;
  /** From 0 to 1, as Math.random. */
  random?: () => number;
}

export interface Path {
  stop(): Promise<void>;
}

export async function startPath(options: PathOptions): Promise<Path> {
  const { address, kePort, ntpPort, rtt, loss = 0, random = Math.random } = options;
  const there = Math.floor(rtt / 2);
  const back = rtt - there;
  const lost = () => random() < loss;
  const retransmission = Math.max(200, 2 * rtt);
  const sockets = new Set<Socket>();
  const clients = new Map<string, UdpSocket>();

  /** Relays one direction in order; every chunk is a segment that may be lost and sent again. */
  const relay = (from: Socket, to: Socket, delay: number, hold: number) => {
    const ready = performance.now() + hold;
    let queue = Promise.resolve();
    const after = (action: () => void) => {
      const sent = Math.max(performance.now(), ready);
      const due = sent + delay + (lost() ? retransmission : 0);
      queue = queue.then(() => until(due)).then(action);
    };
    from.on("data", (bytes) => after(() => void to.write(bytes)));
    from.on("end", () => after(() => to.end()));
    from.on("error", () => to.destroy());
    from.on("close", () => after(() => to.destroy()));
  };
  const tcp = await new Promise<Server>((resolve, reject) => {
    const server = createServer({ noDelay: true }, (client) => {
      const upstream = connect({ host: "127.0.0.1", port: kePort, noDelay: true });
      for (const socket of [client, upstream]) {
        sockets.add(socket);
        socket.once("close", () => sockets.delete(socket));
      }
      let handshake = rtt;
      while (lost() || lost()) handshake += 1000; // the SYN or its answer
      relay(client, upstream, there, handshake);
      relay(upstream, client, back, 0);
    });
    server.once("error", reject);
    server.listen(kePort, address, () => resolve(server));
  });

  const udp = createSocket("udp4");
  let closed = false;
  udp.on("message", (packet, peer) => {
    if (lost()) return;
    const key = `${peer.address}:${peer.port}`;
    let upstream = clients.get(key);
    if (upstream === undefined) {
      upstream = createSocket("udp4");
      upstream.on("error", () => {});
      upstream.on("message", (reply) => {
        if (lost()) return;
        void until(performance.now() + back).then(
          () => closed || udp.send(reply, peer.port, peer.address, () => {}),
        );
      });
      clients.set(key, upstream);
    }
    const via = upstream;
    const due = performance.now() + there;
    void until(due).then(() => closed || via.send(packet, ntpPort, "127.0.0.1", () => {}));
  });
  await new Promise<void>((resolve, reject) => {
    udp.once("error", reject);
    udp.bind(ntpPort, address, resolve);
  });

  return {
    async stop() {
      for (const socket of sockets) socket.destroy();
      closed = true;
      for (const socket of clients.values()) socket.close();
      await new Promise<void>((resolve) => udp.close(() => resolve()));
      await new Promise((resolve) => tcp.close(resolve));
    },
  };
}

/** Timers have a resolution of a millisecond; what is due at once needs none. */
async function until(due: number): Promise<void> {
  const wait = due - performance.now();
  if (wait >= 0.5) await sleep(Math.round(wait));
}
