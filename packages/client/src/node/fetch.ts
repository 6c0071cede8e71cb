// SPDX-License-Identifier: Apache-2.0
/**
 * `attestedFetch(url, { policy })`: as `fetch`, but nothing is sent before the guest at the other end is accepted, and only
 * it can read what is. TLS where that ends in the guest, sealed requests where it ends earlier.
 */
import { Agent, request as httpsRequest } from "node:https";
import type { Duplex } from "node:stream";
import { Readable } from "node:stream";
import type { ReadableStream as NodeStream } from "node:stream/web";
import { tunnelTypes } from "@caisson/protocol/tunnel";
import type { Judgement } from "@caisson/verify";
import { channelTunnelPath } from "@caisson/vocabulary/paths";
import type { Attestation, Way } from "../attestation.ts";
import { ChannelError } from "../errors.ts";
import { KeyChanged, sealedFetch } from "../sealed-fetch.ts";
import { Guest, type GuestOptions, responseTo } from "./connection.ts";

export type { Attestation, AttestationOptions, Binding, Way } from "../attestation.ts";
export { ChannelError, type ChannelErrorCode } from "../errors.ts";
export { Guest, type GuestOptions, observeChannel } from "./connection.ts";

/** What `fetch` takes, and by what the guest is judged. Redirects are not followed: they lead elsewhere. */
export interface AttestedInit extends RequestInit, GuestOptions {
  /** The ways that may be used; both when left out. */
  ways?: readonly Way[];
}

/** A Response, and what is known of who gave it. */
export type AttestedResponse = Response & { readonly attestation: Attestation };

/** node:https over connections that end in the guest. */
export class AttestedAgent extends Agent {
  readonly #guest: Guest;
  constructor(guest: Guest) {
    super({ keepAlive: true, maxCachedSessions: 0 });
    this.#guest = guest;
  }
  override createConnection(_: object, done?: (error: Error | null, socket: Duplex) => void): undefined {
    this.#guest.connect().then(
      (socket) => done!(null, socket),
      (error: Error) => done!(error, undefined as unknown as Duplex),
    );
  }
}

/** One guest: its connections and what is known of it are kept between requests. */
export class AttestedClient {
  readonly guest: Guest;
  readonly agent: AttestedAgent;
  constructor(origin: string | URL, options: GuestOptions, ways?: readonly Way[]) {
    this.guest = new Guest(origin, options, ways);
    this.agent = new AttestedAgent(this.guest);
  }

  /** Throws ChannelError, VerifyError; TypeError for what `fetch` does not take either. */
  async fetch(url: string | URL, init: RequestInit = {}): Promise<AttestedResponse> {
    const request = new Request(url, {
      ...init,
      ...(init.body instanceof ReadableStream && { duplex: "half" }),
    });
    if (new URL(request.url).origin !== this.guest.origin.origin) {
      throw new ChannelError("channel/address", `${request.url} is not at ${this.guest.origin.origin}`);
    }
    // A body can be read once, and may have to be sealed twice.
    const again = request.clone();
    const attestation = await this.guest.attest();
    try {
      return await this.#send(request, attestation);
    } catch (error) {
      if (!(error instanceof KeyChanged)) throw error;
      this.guest.forget();
      try {
        return await this.#send(again, await this.guest.attest());
      } catch (second) {
        if (!(second instanceof KeyChanged)) throw second;
        throw new ChannelError(
          "channel/expired",
          "the guest's keys changed twice while one request was made",
        );
      }
    }
  }

  async #send(request: Request, attestation: Attestation): Promise<AttestedResponse> {
    const carry = (body: Uint8Array<ArrayBuffer>, signal: AbortSignal) =>
      this.guest.carry(channelTunnelPath, tunnelTypes.request, body, signal);
    const response =
      attestation.way === "tls"
        ? await this.#plain(request)
        : await sealedFetch(carry, attestation.keys.hpkeConfig, request);
    return Object.assign(response, { attestation: this.guest.attestation ?? attestation });
  }

  #plain(request: Request): Promise<Response> {
    const { method, url, signal } = request;
    const sending = httpsRequest(url, {
      method,
      agent: this.agent,
      headers: Object.fromEntries(request.headers),
      signal,
    });
    if (request.body === null) sending.end();
    else
      Readable.fromWeb(request.body as NodeStream)
        .on("error", (error) => sending.destroy(error))
        .pipe(sending);
    return responseTo(sending, this.guest.origin);
  }

  close(): void {
    this.guest.forget();
    this.agent.destroy();
  }
}

/** Whatever a guest is judged by, and how it may be reached. */
const judgedBy = ["references", "collateral", "trust", "releases", "maximumAge", "bind"] as const;
type Judged = Pick<AttestedInit, (typeof judgedBy)[number] | "policy">;

interface Known {
  origin: string;
  judged: Judged;
  ways: string;
  client: AttestedClient;
}

const clients = new WeakMap<Judgement["policy"], Known[]>();
/** Of one policy; the one that was asked for longest ago is forgotten. Its connections end with their attestation. */
const mostClients = 64;

/**
 * One request; a guest that was accepted is not asked again before its time where policy and everything else that it is
 * judged by are the same objects.
 */
export function attestedFetch(url: string | URL, init: AttestedInit): Promise<AttestedResponse> {
  const { policy, references, collateral, trust, releases, maximumAge, bind, ways, ...rest } = init;
  const given = { references, collateral, trust, releases, maximumAge, bind };
  const judged = {
    policy,
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
  } as Judged;
  const { origin } = new URL(url);
  const wanted = ways?.join() ?? "";
  const known = clients.get(policy) ?? [];
  const index = known.findIndex(
    (one) =>
      one.origin === origin &&
      one.ways === wanted &&
      judgedBy.every((name) => one.judged[name] === judged[name]),
  );
  const [found = { origin, judged, ways: wanted, client: new AttestedClient(origin, judged, ways) }] =
    index === -1 ? [] : known.splice(index, 1);
  known.push(found);
  if (known.length > mostClients) known.shift();
  clients.set(policy, known);
  return found.client.fetch(url, rest);
}
