// SPDX-License-Identifier: Apache-2.0
/**
 * For undici: `new Agent({ connect: attestedConnector(…), maxCachedSessions: 0 })` is a Dispatcher whose connections end in
 * an attested guest. undici is not needed here, and its TLS is not used.
 */
import type { Socket } from "node:net";
import { Guest, type GuestOptions } from "./connection.ts";

/** What undici passes to a connector, as far as it is used. */
export interface ConnectorOptions {
  hostname: string;
  protocol: string;
  port: string;
}
type Callback = (...result: [error: null, socket: Socket] | [error: Error, socket: null]) => void;

/** A connector of undici's. Refusals are ChannelErrors. */
export function attestedConnector(options: GuestOptions): (to: ConnectorOptions, done: Callback) => void {
  const guests = new Map<string, Guest>();
  return ({ hostname, protocol, port }, done) => {
    const origin = `${protocol}//${hostname}${port === "" ? "" : `:${port}`}`;
    const open = async (): Promise<Socket> => {
      const guest = guests.get(origin) ?? new Guest(origin, options, ["tls"]);
      guests.set(origin, guest);
      return guest.connect();
    };
    open().then(
      (socket) => done(null, socket),
      (error: Error) => done(error, null),
    );
  };
}
