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
import { Guest, type GuestOptions, responseOf } from "./connection.ts";

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
    return new Promise((resolve, reject) => {
      const { method, url, signal } = request;
      const sending = httpsRequest(url, {
        method,
        agent: this.agent,
        headers: Object.fromEntries(request.headers),
        signal,
      });
      sending.once("response", (answer) => resolve(responseOf(answer)));
      sending.once("error", reject);
      if (request.body === null) sending.end();
      else
        Readable.fromWeb(request.body as NodeStream)
          .on("error", (error) => sending.destroy(error))
          .pipe(sending);
    });
  }

  close(): void {
    this.guest.forget();
    this.agent.destroy();
  }
}

const clients = new WeakMap<Judgement["policy"], Map<string, AttestedClient>>();

/** One request; guests that were accepted under the same policy object are not asked again before their time. */
export function attestedFetch(url: string | URL, init: AttestedInit): Promise<AttestedResponse> {
  const { policy, references, collateral, trust, maximumAge, bind, ways, ...rest } = init;
  const origins = clients.get(policy) ?? new Map<string, AttestedClient>();
  clients.set(policy, origins);
  const { origin } = new URL(url);
  const name = `${origin} ${ways?.join() ?? ""} ${maximumAge ?? ""} ${bind ?? ""}`;
  const options = {
    policy,
    ...(references && { references }),
    ...(collateral && { collateral }),
    ...(trust && { trust }),
    ...(maximumAge !== undefined && { maximumAge }),
    ...(bind !== undefined && { bind }),
  };
  const client = origins.get(name) ?? new AttestedClient(origin, options, ways);
  origins.set(name, client);
  return client.fetch(url, rest);
}
