// SPDX-License-Identifier: Apache-2.0
/** One source: keys if needed, then one authenticated exchange, which bounds the time. */
import { createSocket } from "node:dgram";
import { isIP } from "node:net";
import type { Chain } from "./certificates.ts";
import type { TimeSource } from "./configuration.ts";
import type { Environment } from "./environment.ts";
import { NtsError } from "./errors.ts";
import {
  decodeReply,
  encodeRequest,
  nonceBytes,
  type Reply,
  timestampsApart,
  uniqueIdentifierBytes,
} from "./ntp.ts";
import { maxCookies } from "./ntske.ts";
import { type Association, establishKeys } from "./ntske-client.ts";

/** An honest server's reply proves that at the instant `at`, Unix time was between `earliest` and `latest`. */
export interface Measurement {
  /** Monotonic milliseconds: when the reply arrived. */
  at: number;
  /** Unix milliseconds. */
  earliest: number;
  latest: number;
  /** Milliseconds on the way, without the time that the server took. */
  rtt: number;
  stratum: number;
  leap: number;
  /** The server's certificates. Their dates are still to be judged, at the agreed time. */
  chain: Chain;
}

/** Requests for one measurement; each has its own cookie, so at most this many of the eight are spent. */
const maxRequests = 4;
const keyEstablishmentTimeoutMs = 4000;

/**
 * Measures `source`. `associations` remembers keys and cookies from one call to the next; keys that did not work are
 * forgotten, not those under which a server said that it is not synchronized yet. `near` (Unix milliseconds, ± 68
 * years) decides the NTP era. Throws NtsError.
 */
export async function measure(
  source: TimeSource,
  associations: Map<string, Association>,
  environment: Environment,
  near: number,
  signal: AbortSignal,
): Promise<Measurement> {
  let association = associations.get(source.name);
  if (association === undefined || association.cookies.length === 0) {
    association = await establishKeys(source, environment, keyEstablishmentTimeoutMs, signal);
    associations.set(source.name, association);
  }
  try {
    return await exchange(association, environment, near, signal);
  } catch (error) {
    const keysWork = error instanceof NtsError && error.code === "ntp/unsynchronized";
    if (!keysWork && !signal.aborted) associations.delete(source.name);
    throw error;
  }
}

/**
 * One measurement with an association's keys. An unanswered request is repeated, with a new cookie and new random
 * numbers, after twice the expected round trip, then with doubled patience.
 *
 * What is not an authentic reply to one of our requests is ignored: forged packets cannot end the exchange early.
 * A NAK is not authenticated (RFC 8915, section 5.7): it only decides what the error says when nothing better came.
 */
export async function exchange(
  association: Association,
  environment: Environment,
  near: number,
  signal: AbortSignal,
): Promise<Measurement> {
  const { address, family } = await resolve(association, environment, signal);
  const socket = createSocket(family === 6 ? "udp6" : "udp4");
  const pending: Pending[] = [];
  let failure = new NtsError("ntp/timeout", `no reply from ${address}, UDP port ${association.port}`);
  let timer: NodeJS.Timeout | undefined;
  let abort = (): void => {};

  try {
    return await new Promise<Measurement>((resolve, reject) => {
      abort = () => reject(abandoned());
      let patience = Math.min(Math.max(2 * association.rttGuess + 50, 100), 1000);
      const send = () => {
        const next = pending.length < maxRequests ? nextRequest(association, environment) : undefined;
        if (next === undefined) {
          reject(pending.length === 0 ? new NtsError("ntp/no-cookie", "no cookie is left") : failure);
          return;
        }
        pending.push({ ...next.expects, sent: environment.monotonic() });
        socket.send(next.packet);
        timer = setTimeout(send, patience);
        patience *= 2;
      };

      socket.on("message", (packet) => {
        try {
          const read = readReply(packet, pending, association, near, environment.monotonic());
          if (read instanceof NtsError) failure = read;
          else if (read !== undefined) resolve(read);
        } catch (error) {
          reject(error as Error);
        }
      });
      // A closed port answers with ICMP, which anybody can forge: it does not end the exchange either.
      const broken = (error: Error) =>
        new NtsError("ntp/socket", `UDP to ${address} failed`, { facts: [["cause", error.message]] });
      socket.on("error", (error) => {
        failure = broken(error);
      });
      signal.addEventListener("abort", abort, { once: true });
      if (signal.aborted) abort();
      else {
        // Node calls back with an error when there is no route, which its types do not say.
        const connected = (error?: Error) => (error === undefined ? send() : reject(broken(error)));
        socket.connect(association.port, address, connected);
      }
    });
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
    socket.close();
  }
}

/** A request that may still be answered. `sent`: monotonic milliseconds. */
interface Pending {
  uniqueIdentifier: Uint8Array;
  transmit: Uint8Array;
  sent: number;
}

/** A packet with the association's next cookie, and what its reply has to name; undefined when no cookie is left. */
function nextRequest(
  association: Association,
  environment: Environment,
): { packet: Uint8Array; expects: Omit<Pending, "sent"> } | undefined {
  const cookie = association.cookies.shift();
  if (cookie === undefined) return undefined;
  const expects = {
    uniqueIdentifier: environment.random(uniqueIdentifierBytes),
    nonce: environment.random(nonceBytes),
    transmit: environment.random(8),
  };
  const placeholders = maxCookies - 1 - association.cookies.length;
  return {
    packet: encodeRequest({ key: association.clientToServer, cookie, placeholders, ...expects }),
    expects,
  };
}

/**
 * What a packet that came `at` (monotonic milliseconds) says: a measurement, why it is not an authentic reply to any of
 * these requests, or, where it is somebody else's, nothing. Throws NtsError where an authentic reply ends the exchange.
 */
function readReply(
  packet: Uint8Array,
  pending: readonly Pending[],
  association: Association,
  near: number,
  at: number,
): Measurement | NtsError | undefined {
  let failure: NtsError | undefined;
  for (const request of pending) {
    let reply: Reply;
    try {
      reply = decodeReply(packet, request, association.serverToClient, near);
    } catch (error) {
      if (!(error instanceof NtsError)) throw error;
      if (error.code === "ntp/kiss" || error.code === "ntp/unsynchronized") throw error;
      if (error.code !== "ntp/mismatch") failure = error;
      continue;
    }
    association.cookies.push(...reply.cookies.slice(0, maxCookies - association.cookies.length));
    const inServer = reply.transmit - reply.receive;
    if (inServer > at - request.sent + 1 + timestampsApart(reply.precision)) {
      throw new NtsError("ntp/malformed", `the server says that it took ${Math.round(inServer)} ms`);
    }
    return { ...bound(reply, request.sent, at), chain: association.chain };
  }
  return failure;
}

/**
 * The reply was sent after our request left and before it arrived, so on arrival the server's clock showed at least
 * the time of sending, and at most the time of receiving plus all that has passed here. Its own error (half its delay
 * to the reference, its dispersion and its clock's precision; RFC 5905, section 11.2) widens both sides. The time that
 * it took is not negative, whatever a coarse clock says.
 */
function bound(reply: Reply, sent: number, at: number): Omit<Measurement, "chain"> {
  const passed = at - sent;
  const rtt = Math.max(0, passed - Math.max(0, reply.transmit - reply.receive));
  const error = reply.rootDelay / 2 + reply.rootDispersion + reply.precision;
  const { stratum, leap } = reply;
  const latest = Math.max(reply.transmit, reply.receive + passed) + error;
  return { at, earliest: reply.transmit - error, latest, rtt, stratum, leap };
}

/** A name's address, of the family with which key establishment went well if it has several. */
async function resolve(
  { host, family }: Association,
  environment: Environment,
  signal: AbortSignal,
): Promise<{ address: string; family: number }> {
  const literal = isIP(host);
  if (literal !== 0) return { address: host, family: literal };
  return new Promise((found, failed) => {
    const abort = () => failed(abandoned());
    signal.addEventListener("abort", abort, { once: true });
    environment.lookup(host, { all: true }, (error, answer) => {
      signal.removeEventListener("abort", abort);
      const addresses = Array.isArray(answer) ? answer : [];
      const address = addresses.find((one) => one.family === family) ?? addresses[0];
      if (error === null && address !== undefined) found(address);
      else failed(new NtsError("ke/lookup", `the NTP server ${host} has no address`));
    });
  });
}

const abandoned = () => new NtsError("ntp/timeout", "no longer needed");
