// SPDX-License-Identifier: Apache-2.0
/**
 * An NTS server that does what a test wants: correct unless told otherwise. It shares the codec of packages/nts;
 * that the codec is right is shown by chronyd, in both directions.
 */
import { randomBytes } from "node:crypto";
import { createSocket, type RemoteInfo } from "node:dgram";
import type { AddressInfo, Socket } from "node:net";
import { createServer, type TLSSocket, type TlsOptions } from "node:tls";
import type { TimeSource } from "@caisson/nts";
import { encodeAuthenticator, encodeField, fields, fieldType, ntpTimestamp } from "@caisson/nts/ntp";
import { alpn, encodeRecord, exporterContext, exporterLabel, recordType } from "@caisson/nts/ntske";
import { issueServerCertificate, type TestAuthority, type Validity } from "@caisson/simulated/test-authority";

export interface Behaviour {
  /** How far its clock is off, in milliseconds. */
  offset?: number;
  /** The authority that issues its certificate; the trusted one when missing. */
  issuer?: TestAuthority;
  /** The name in its certificate, its own when missing. */
  certifiedName?: string;
  /** An IPv4 address in its certificate, for clients that are given one instead of a name. */
  certifiedAddress?: string;
  /** Certificates that it sends after its own, PEM. */
  chain?: string;
  validity?: Validity;
  tls?: TlsOptions;
  /** Bytes to send instead of the correct key establishment answer; nothing is sent for undefined. */
  answer?: (records: Uint8Array[]) => Uint8Array | undefined;
  /** Goes on after the answer, with the connection still open. */
  afterAnswer?: (socket: Socket) => void;
  /** Datagrams to send for one request, instead of the correct reply. */
  reply?: (reply: Uint8Array, request: Uint8Array, count: number) => Uint8Array[];
  /** Milliseconds to wait before a reply is sent. */
  replyDelay?: number;
  /** Changes the 48 bytes of the header before they are authenticated. */
  header?: (header: Buffer) => void;
  /** Plaintext of the authenticator; a new cookie for each that was asked for when missing. */
  inside?: () => Uint8Array;
  address?: "127.0.0.1" | "::1";
}

export interface HostileServer {
  source: TimeSource;
  /** NTP requests seen. */
  requests: () => number;
  stop(): Promise<void>;
}

const day = 24 * 3600 * 1000;
/** Date.now() is cut to whole milliseconds: 2^-9 s is the next power above that. */
const clockPrecision = -9;

export async function startHostileServer(
  authority: TestAuthority,
  operator: string,
  behaviour: Behaviour = {},
): Promise<HostileServer> {
  const name = `${operator}.hostile.test`;
  const address = behaviour.address ?? "127.0.0.1";
  const validity = behaviour.validity ?? { notBefore: Date.now() - day, notAfter: Date.now() + day };
  const { certificate, key } = issueServerCertificate(
    behaviour.issuer ?? authority,
    [behaviour.certifiedName ?? name],
    behaviour.certifiedAddress === undefined ? [] : [behaviour.certifiedAddress],
    validity,
  );
  const associations = new Map<string, { clientToServer: Buffer; serverToClient: Buffer }>();
  const newCookie = (keys: { clientToServer: Buffer; serverToClient: Buffer }) => {
    const cookie = randomBytes(100);
    associations.set(cookie.toString("hex"), keys);
    return cookie;
  };

  const udp = createSocket(address === "::1" ? "udp6" : "udp4");
  await new Promise<void>((resolve) => udp.bind(0, address, resolve));
  let count = 0;
  udp.on("message", (request, peer) => {
    count++;
    const reply = answerNtp(request, Date.now() + (behaviour.offset ?? 0));
    if (reply === undefined) return;
    const datagrams = behaviour.reply?.(reply, request, count) ?? [reply];
    setTimeout(() => send(datagrams, peer), behaviour.replyDelay ?? 0).unref();
  });
  const send = (datagrams: Uint8Array[], peer: RemoteInfo) => {
    for (const datagram of datagrams) udp.send(datagram, peer.port, peer.address, () => {});
  };

  function answerNtp(request: Buffer, received: number): Uint8Array | undefined {
    const found = [...fields(request, 48)];
    const value = (type: number) => found.find((field) => field.type === type)?.value;
    const keys = associations.get(Buffer.from(value(fieldType.cookie) ?? []).toString("hex"));
    const identifier = value(fieldType.uniqueIdentifier);
    if (keys === undefined || identifier === undefined) return undefined;
    const header = Buffer.alloc(48);
    header[0] = (4 << 3) | 4;
    header[1] = 1;
    header.writeInt8(clockPrecision, 3);
    header.set(request.subarray(40, 48), 24);
    header.writeBigUInt64BE(ntpTimestamp(received), 32);
    header.writeBigUInt64BE(ntpTimestamp(received), 40);
    behaviour.header?.(header);
    const packet = Buffer.concat([header, encodeField(fieldType.uniqueIdentifier, identifier)]);
    const wanted = found.filter(
      ({ type }) => type === fieldType.cookie || type === fieldType.cookiePlaceholder,
    );
    const cookies = wanted.map(() => encodeField(fieldType.cookie, newCookie(keys)));
    const inside = behaviour.inside?.() ?? Buffer.concat(cookies);
    return Buffer.concat([packet, encodeAuthenticator(packet, keys.serverToClient, randomBytes(16), inside)]);
  }

  const open = new Set<Socket>();
  const server = createServer({
    key,
    cert: certificate + (behaviour.chain ?? ""),
    minVersion: "TLSv1.2",
    ALPNProtocols: [alpn],
    ...behaviour.tls,
  });
  server.on("connection", (socket: Socket) => {
    open.add(socket);
    socket.once("close", () => open.delete(socket));
    socket.on("error", () => {});
  });
  server.on("tlsClientError", () => {});
  server.on("secureConnection", (socket: TLSSocket) => {
    socket.on("error", () => {});
    socket.once("data", () => {
      const context = (direction: Parameters<typeof exporterContext>[0]) =>
        socket.exportKeyingMaterial(32, exporterLabel, Buffer.from(exporterContext(direction)));
      const keys = {
        clientToServer: context("client-to-server"),
        serverToClient: context("server-to-client"),
      };
      const port = Buffer.alloc(2);
      port.writeUInt16BE(udp.address().port);
      const records = [
        encodeRecord(recordType.nextProtocol, Uint8Array.of(0, 0), true),
        encodeRecord(recordType.aead, Uint8Array.of(0, 15), true),
        encodeRecord(recordType.port, port, true),
        ...Array.from({ length: 8 }, () => encodeRecord(recordType.cookie, newCookie(keys), false)),
        encodeRecord(recordType.endOfMessage, new Uint8Array(0), true),
      ];
      const bytes = behaviour.answer === undefined ? Buffer.concat(records) : behaviour.answer(records);
      if (bytes !== undefined) socket.write(bytes);
      behaviour.afterAnswer?.(socket);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, address, resolve));
  const { port } = server.address() as AddressInfo;

  return {
    source: { name, operator, address, kePort: port, ca: authority.certificate },
    requests: () => count,
    async stop() {
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      await new Promise<void>((resolve) => udp.close(resolve));
    },
  };
}
