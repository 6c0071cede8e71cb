// SPDX-License-Identifier: Apache-2.0
/**
 * Connections: how many of one sender and how many in all, how much of their requests is in memory, and which one gives way.
 *
 * Invariants: a connection whose request has arrived whole is never given up for a new one before it has its answer;
 * at a limit the one that is idle for longest goes, of the network that holds most, so that whoever opens many closes
 * his own; one that sent nothing within two seconds is closed. The bodies that are in memory, arriving or being answered,
 * are bounded as a sum: beyond it the network that holds most loses the largest that has not arrived whole.
 */
import type { Server } from "node:http";
import type { Socket } from "node:net";
import { addressGroups } from "./address-groups.ts";

interface Connection {
  socket: Socket;
  /** Names of the sender's groups, narrowest first. */
  groups: readonly string[];
  /** When it was opened, or its last answer was out, in ms of `performance.now`. */
  idleSince: number;
  /** A request has begun. */
  asked: boolean;
  /** It has arrived whole, and its answer is not out. Everything else counts as idle. */
  answering: boolean;
  /** Bytes of its request's body that are in memory. */
  held: number;
}

export interface ConnectionLimits {
  total: number;
  /** Of one address; a wider group has this times its factor (address-groups.ts), and a quarter of all at most. */
  perAddress: number;
  /** For the first byte, in ms. */
  silentMs: number;
  /** Of all bodies in memory, in bytes. */
  bodies: number;
}

export class Connections {
  readonly #limits: ConnectionLimits;
  readonly #open = new Map<Socket, Connection>();
  readonly #counts = new Map<string, number>();
  /** Bytes of all bodies in memory. */
  #held = 0;
  readonly #sweep: NodeJS.Timeout;

  constructor(server: Server, limits: ConnectionLimits) {
    this.#limits = limits;
    server.on("connection", (socket) => this.#admit(socket));
    this.#sweep = setInterval(() => this.#closeSilent(), limits.silentMs / 4).unref();
    server.once("close", () => clearInterval(this.#sweep));
  }

  /** False where a request is under way on this connection already; otherwise one is, until `done`. */
  begin(socket: Socket): boolean {
    const connection = this.#open.get(socket);
    if (connection === undefined || connection.asked) return false;
    connection.asked = true;
    return true;
  }

  /** `bytes` more of the body of this connection's request are in memory; where that is too much, one gives way. */
  hold(socket: Socket, bytes: number): void {
    const connection = this.#open.get(socket);
    if (connection === undefined) return;
    connection.held += bytes;
    this.#held += bytes;
    while (this.#held > this.#limits.bodies && this.#giveUpBody());
  }

  /** The request has arrived whole. */
  received(socket: Socket): void {
    const connection = this.#open.get(socket);
    if (connection !== undefined) connection.answering = true;
  }

  /** The answer is out. */
  done(socket: Socket): void {
    const connection = this.#open.get(socket);
    if (connection === undefined) return;
    connection.asked = false;
    connection.answering = false;
    this.#held -= connection.held;
    connection.held = 0;
    connection.idleSince = performance.now();
  }

  #admit(socket: Socket): void {
    const { total, perAddress } = this.#limits;
    const groups = addressGroups(socket.remoteAddress ?? "");
    for (const { name, factor } of groups) {
      const limit = Math.max(perAddress, Math.min(perAddress * factor, total / 4));
      if (this.#count(name) >= limit && !this.#giveUp((other) => other.groups.includes(name))) {
        return void socket.destroy();
      }
    }
    if (this.#open.size >= total && !this.#giveUpOfLargest()) return void socket.destroy();
    const connection: Connection = {
      socket,
      groups: groups.map(({ name }) => name),
      idleSince: performance.now(),
      asked: false,
      answering: false,
      held: 0,
    };
    this.#open.set(socket, connection);
    for (const name of connection.groups) this.#counts.set(name, this.#count(name) + 1);
    socket.once("close", () => this.#forget(connection));
  }

  /** Closes the one that is idle for longest among those that `counts` accepts; false where none is idle. */
  #giveUp(counts: (connection: Connection) => boolean): boolean {
    let oldest: Connection | undefined;
    for (const connection of this.#open.values()) {
      if (connection.answering || !counts(connection)) continue;
      if (oldest === undefined || connection.idleSince < oldest.idleSince) oldest = connection;
    }
    return this.#close(oldest);
  }

  #close(connection: Connection | undefined): boolean {
    if (connection === undefined) return false;
    this.#forget(connection);
    connection.socket.destroy();
    return true;
  }

  /** Of the widest group with most idle connections. */
  #giveUpOfLargest(): boolean {
    const largest = this.#largest(() => 1);
    return largest !== undefined && this.#giveUp(({ groups }) => groups.at(-1) === largest);
  }

  /** Of the widest group whose bodies that are still arriving are largest together, the largest of these. */
  #giveUpBody(): boolean {
    const group = this.#largest(({ held }) => held);
    const arriving = [...this.#open.values()].filter(
      ({ answering, held, groups }) => !answering && held > 0 && groups.at(-1) === group,
    );
    return this.#close(arriving.sort((a, b) => b.held - a.held)[0]);
  }

  /** The widest group with the largest sum over its connections that are not being answered. */
  #largest(of: (connection: Connection) => number): string | undefined {
    const sums = new Map<string, number>();
    for (const connection of this.#open.values()) {
      const group = connection.groups.at(-1)!;
      if (!connection.answering) sums.set(group, (sums.get(group) ?? 0) + of(connection));
    }
    return [...sums].sort(([, a], [, b]) => b - a)[0]?.[0];
  }

  #closeSilent(): void {
    const now = performance.now();
    for (const { socket, idleSince } of this.#open.values()) {
      if (socket.bytesRead === 0 && now - idleSince >= this.#limits.silentMs) socket.destroy();
    }
  }

  #count(name: string): number {
    return this.#counts.get(name) ?? 0;
  }

  /** Once for each connection, however it ended. */
  #forget(connection: Connection): void {
    if (!this.#open.delete(connection.socket)) return;
    this.#held -= connection.held;
    for (const name of connection.groups) {
      const left = this.#count(name) - 1;
      if (left === 0) this.#counts.delete(name);
      else this.#counts.set(name, left);
    }
  }
}
