// SPDX-License-Identifier: Apache-2.0
/**
 * The front (`packages/front`), run as a service of the platform's own: its keys, its sandbox, and the one thing that it
 * may ask of PID 1.
 *
 * Invariants: the keys are made here at each boot, for this process alone, and leave over a pipe; report data of a channel
 * binds those keys and nothing that the front, or anybody else, names, but a root of nonces.
 */
import { createHash, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { closeSync, writeSync } from "node:fs";
import type { Server } from "node:net";
import { decodeReport } from "@caisson/protocol/certificate-report";
import { deriveApplicationKey } from "@caisson/protocol/derivation";
import {
  type ChannelQuestion,
  channelPath,
  channelSocketPath,
  type FrontSetup,
  frontListens,
  writeFrontSetup,
} from "@caisson/protocol/front-setup";
import {
  type AppDescription,
  type FrontDescription,
  type Service,
  serviceLimit,
} from "@caisson/protocol/guest-config";
import { reportData } from "@caisson/verify/report-data";
import { hpkeConfigOf } from "@caisson/vocabulary/channel";
import * as z from "zod/mini";
import { p256Key } from "../dstack/keys.ts";
import type { Share } from "../sandbox.ts";
import { servingProfile } from "../seccomp.ts";
import type { Context } from "../stage.ts";
import { Refused, readJson, serveJson } from "../unix-server.ts";
import { launch, type Prepared, type Running } from "./launch.ts";
import { outsideId, type Place } from "./place.ts";

/** Not a name that a service can have. */
export const frontName = "_front";
/** Where its root lies in the verity image. */
const root = "/app/_front";
const MiB = 2 ** 20;
/** Nobody else has it. */
const user = 65_532;

/** The front as a service: unprivileged, read-only, on a network of its own with one way, to the application. */
export function frontService({ acme }: FrontDescription): Service {
  return {
    image: "0".repeat(64),
    root,
    isolation: "contained",
    range: serviceLimit,
    arguments: [
      "/usr/bin/node",
      // Buffers are most of what it makes: with one or two processors, threads that collect them cost more than they save.
      "--single-threaded-gc",
      "--disallow-code-generation-from-strings",
      "--disable-proto=delete",
      "/front.mjs",
    ],
    environment: { UV_THREADPOOL_SIZE: "2" },
    workingDirectory: "/",
    user,
    group: user,
    additionalGroups: [],
    readOnly: true,
    layerSize: MiB,
    tmpfs: [],
    mounts: [],
    files: [],
    capabilities: [],
    memory: 768 * MiB,
    pids: 64,
    shmSize: MiB,
    nofile: { soft: 16_384, hard: 16_384 },
    hostname: "front",
    networks: {},
    extraHosts: {},
    ports: [],
    egress: acme === undefined ? "none" : { to: [directoryHost(acme.directory)] },
    dependsOn: {},
    restart: { policy: "no" },
    stopSignal: "SIGTERM",
    stopGraceMs: 1_000,
    socket: false,
    key: false,
  };
}

function directoryHost(directory: string): string {
  const { hostname, port } = new URL(directory);
  return `${hostname}:${port === "" ? 443 : port}`;
}

/** All that it sees of the guest beside its own files: where it asks for evidence. */
export const channelSocket = ({ socket }: Place): Share => ({
  source: socket,
  destination: channelSocketPath,
  writable: true,
});

/** The description with the front among its services, where it has one: for networks and places. */
export const withFront = (app: AppDescription): AppDescription =>
  app.front === undefined
    ? app
    : { ...app, services: { ...app.services, [frontName]: frontService(app.front) } };

const request = z.strictObject({
  nonceRoot: z.string().check(z.regex(/^[0-9a-f]{64}$/)),
} satisfies Record<keyof ChannelQuestion, z.ZodMiniType<string>>);

/** The keys of this boot. */
export interface ChannelKeys {
  tls: KeyObject;
  hpke: KeyObject;
}

export const makeChannelKeys = (): ChannelKeys => ({
  tls: generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey,
  hpke: generateKeyPairSync("x25519").privateKey,
});

const spki = (key: KeyObject): Buffer => createPublicKey(key).export({ format: "der", type: "spki" });
/** The last 32 bytes of SubjectPublicKeyInfo and PKCS 8 are the key (RFC 8410). */
const lastBytes = (der: Buffer): Buffer => der.subarray(der.length - 32);

/** Serves evidence of the channel to the front, and to nobody else. */
export async function serveChannel(context: Context, path: string, keys: ChannelKeys): Promise<void> {
  const tlsKey = new Uint8Array(createHash("sha256").update(spki(keys.tls)).digest());
  const hpkeConfig = hpkeConfigOf(new Uint8Array(lastBytes(spki(keys.hpke))));
  const owner = outsideId(frontService(context.config.app.front!), user);
  await serveJson(path, { user: owner, group: owner }, async (asked) => {
    if (`${asked.method} ${asked.url}` !== `POST ${channelPath}`)
      throw new Refused(404, "there is no such thing");
    const parsed = request.safeParse(await readJson(asked, 256));
    if (!parsed.success) throw new Refused(400, "nonceRoot: 64 hexadecimal digits");
    const nonceRoot = Uint8Array.fromHex(parsed.data.nonceRoot);
    const fields = { nonceRoot, tlsKey, hpkeConfig };
    const claim = Object.fromEntries(Object.entries(fields).map(([name, bytes]) => [name, bytes.toHex()]));
    return context.attest(await reportData("caisson/channel/v1", fields), {
      scheme: "caisson/channel/v1",
      fields: claim,
    });
  });
}

/** What the front is told. `host`: the application's address. */
export function frontSetup(
  context: Pick<Context, "config" | "keys">,
  front: FrontDescription,
  keys: ChannelKeys,
  host: string,
): FrontSetup {
  const { name } = context.config.app;
  const account =
    front.acme === undefined || context.keys === undefined
      ? undefined
      : p256Key(deriveApplicationKey(context.keys.root, "acme", "acme-account"))
          .export({ format: "der", type: "pkcs8" })
          .toString("base64");
  return {
    tlsKey: keys.tls.export({ format: "der", type: "pkcs8" }).toString("base64"),
    hpkeKey: lastBytes(keys.hpke.export({ format: "der", type: "pkcs8" })).toString("base64"),
    application: { host, port: front.target },
    require: front.require,
    names: front.names.length > 0 ? front.names : [`${name}.internal`],
    ...(front.acme !== undefined &&
      account !== undefined && { acme: { ...front.acme, accountKey: account } }),
  };
}

const noAccount = {
  state: "failed",
  reason: "acme/account",
  message: "the account's key follows from the application's, and this machine has no KMS to get it from",
} as const;

/** Starts the front on the machine's port; it serves when this resolves. `host`: the application's address. */
export async function startFront(
  context: Context,
  prepared: Prepared,
  keys: ChannelKeys,
  host: string,
): Promise<Running> {
  const front = context.config.app.front!;
  if (front.acme !== undefined && context.keys === undefined) context.certificate(noAccount);
  const listens = Promise.withResolvers<void>();
  const listening = await listen(front.port);
  const [read, write] = context.syscalls.pipe();
  try {
    const text = writeFrontSetup(frontSetup(context, front, keys, host));
    // A pipe holds 64 KiB: this never waits.
    writeSync(write, text);
    text.fill(0);
    closeSync(write);
    const rate = { bytes: 4096, lines: 50 };
    const running = launch(
      context.syscalls,
      { ...prepared, seccomp: servingProfile },
      rate,
      (line) => {
        const report = decodeReport(line);
        if (line === frontListens) listens.resolve();
        else if (report !== undefined) context.certificate(report);
        else context.log(`front: ${line}`);
      },
      [read, listening.descriptor],
    );
    // crun has its copies since it was started, and nobody was accepted here: no event was waited for in between.
    closeSync(read);
    listening.server.close();
    const started = await running;
    const ended = started.ended.then(({ status }) => {
      throw new Error(`it ended with status ${status}`);
    });
    await Promise.race([listens.promise, ended]);
    ended.catch(() => undefined);
    return started;
  } catch (error) {
    listening.server.close();
    throw error;
  }
}

/** A socket that listens, and its descriptor; the front's copy keeps it open. */
function listen(port: number): Promise<{ server: Server; descriptor: number }> {
  const { createServer } = process.getBuiltinModule("node:net");
  const server = createServer({ pauseOnConnect: true });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port, host: "0.0.0.0", backlog: 1024 }, () => {
      const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
      resolve({ server, descriptor: fd });
    });
  });
}
