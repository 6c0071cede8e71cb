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
  /** When it was opened, in ms of `performance.now`. */
  opened: number;
  /** A request has begun. */
  asked: boolean;
  /** It has arrived whole, and its answer is not out. Everything else counts as idle. */
  answering: boolean;
  /** Bytes of its request's body that are in memory. */
  held: number;
}

/** Connections that have a group of senders in common. */
interface Group {
  open: number;
  /** Those that are idle, in the order in which they became so. */
  idle: Set<Connection>;
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
  readonly #groups = new Map<string, Group>();
  /** Bytes of all bodies in memory. */
  #held = 0;
  readonly #sweep: NodeJS.Timeout;

  constructor(server: Server, limits: ConnectionLimits) {
    this.#limits = limits;
    server.on("connection", (socket) => this.#admit(socket));
    // After what waits was read: where this process was held up, that is not a silence of its clients.
    const closeSilent = () => setImmediate(() => this.#closeSilent());
    this.#sweep = setInterval(closeSilent, limits.silentMs / 4).unref();
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
    if (connection === undefined) return;
    connection.answering = true;
    for (const { idle } of this.#groupsOf(connection)) idle.delete(connection);
  }

  /** The answer is out. */
  done(socket: Socket): void {
    const connection = this.#open.get(socket);
    if (connection === undefined) return;
    connection.asked = false;
    connection.answering = false;
    this.#held -= connection.held;
    connection.held = 0;
    for (const { idle } of this.#groupsOf(connection)) {
      idle.delete(connection);
      idle.add(connection);
    }
  }

  #admit(socket: Socket): void {
    const { total, perAddress } = this.#limits;
    const groups = addressGroups(socket.remoteAddress ?? "");
    for (const { name, factor } of groups) {
      const limit = Math.max(perAddress, Math.min(perAddress * factor, total / 4));
      const group = this.#groups.get(name);
      if (group !== undefined && group.open >= limit && !this.#giveUp(group)) return void socket.destroy();
    }
    if (this.#open.size >= total && !this.#giveUpOfLargest()) return void socket.destroy();
    const connection: Connection = {
      socket,
      groups: groups.map(({ name }) => name),
      opened: performance.now(),
      asked: false,
      answering: false,
      held: 0,
    };
    this.#open.set(socket, connection);
    for (const name of connection.groups) {
      if (!this.#groups.has(name)) this.#groups.set(name, { open: 0, idle: new Set() });
    }
    for (const group of this.#groupsOf(connection)) {
      group.open += 1;
      group.idle.add(connection);
    }
    socket.once("close", () => this.#forget(connection));
  }

  #groupsOf({ groups }: Connection): Group[] {
    return groups.map((name) => this.#groups.get(name)!);
  }

  /** Closes the one of a group that is idle for longest; false where none is idle. */
  #giveUp({ idle }: Group): boolean {
    return this.#close(idle.values().next().value);
  }

  #close(connection: Connection | undefined): boolean {
    if (connection === undefined) return false;
    this.#forget(connection);
    connection.socket.destroy();
    return true;
  }

  /** Of the widest group with most idle connections. */
  #giveUpOfLargest(): boolean {
    let largest: Group | undefined;
    for (const [name, group] of this.#groups) {
      const { size } = group.idle;
      const [first] = group.idle;
      if (first?.groups.at(-1) === name && size > (largest?.idle.size ?? 0)) largest = group;
    }
    return largest !== undefined && this.#giveUp(largest);
  }

  /** Of the widest group whose bodies that are still arriving are largest together, the largest of these. */
  #giveUpBody(): boolean {
    const sums = new Map<string, number>();
    for (const { answering, groups, held } of this.#open.values()) {
      const group = groups.at(-1)!;
      if (!answering) sums.set(group, (sums.get(group) ?? 0) + held);
    }
    const group = [...sums].sort(([, a], [, b]) => b - a)[0]?.[0];
    const arriving = [...this.#open.values()].filter(
      ({ answering, held, groups }) => !answering && held > 0 && groups.at(-1) === group,
    );
    return this.#close(arriving.sort((a, b) => b.held - a.held)[0]);
  }

  #closeSilent(): void {
    const now = performance.now();
    for (const { socket, opened } of this.#open.values()) {
      if (socket.bytesRead === 0 && now - opened >= this.#limits.silentMs) socket.destroy();
    }
  }

  /** Once for each connection, however it ended. */
  #forget(connection: Connection): void {
    if (!this.#open.delete(connection.socket)) return;
    this.#held -= connection.held;
    for (const name of connection.groups) {
      const group = this.#groups.get(name)!;
      group.open -= 1;
      group.idle.delete(connection);
      if (group.open === 0) this.#groups.delete(name);
    }
  }
}
