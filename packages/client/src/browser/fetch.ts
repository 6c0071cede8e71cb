// SPDX-License-Identifier: Apache-2.0
/**
 * For a page: requests that only an accepted guest can read, whoever ends TLS. A page sees neither certificate nor key of
 * its connection, so everything is sealed (the tunnel).
 *
 * What it does not do: make the page itself trustworthy. Whoever serves this code could serve other code.
 */
import { tunnelTypes } from "@caisson/protocol/tunnel";
import { VerifyError } from "@caisson/verify";
import { firstBytes, piecesOf } from "@caisson/vocabulary/body";
import { messageOf } from "@caisson/vocabulary/failure";
import { limits } from "@caisson/vocabulary/limits";
import { channelTunnelPath } from "@caisson/vocabulary/paths";
import {
  type Attestation,
  type AttestationOptions,
  attestationOf,
  evidenceUrl,
  freshNonce,
  LastAttestation,
} from "../attestation.ts";
import { ChannelError } from "../errors.ts";
import { KeyChanged, sealedFetch } from "../sealed-fetch.ts";

export { type Report, readPolicy, readReferences, VerifyError } from "@caisson/verify";
export type { Attestation, AttestationOptions } from "../attestation.ts";
export { ChannelError } from "../errors.ts";

const evidenceMs = 90_000;

export class GuestChannel {
  readonly origin: string;
  readonly #options: AttestationOptions;
  readonly #fetch: typeof fetch;
  readonly #last = new LastAttestation();

  /** `through`: the fetch that carries; the page's own when left out. */
  constructor(
    origin: string,
    options: AttestationOptions,
    through: typeof fetch = (...args) => fetch(...args),
  ) {
    this.origin = new URL(origin).origin;
    this.#options = options;
    this.#fetch = through;
  }

  get attestation(): Attestation | undefined {
    return this.#last.good;
  }

  /** Asks for evidence and judges it, unless the last is still good. Throws ChannelError, VerifyError. */
  attest(): Promise<Attestation> {
    return this.#last.goodOr(() => this.#attestAnew());
  }

  async #attestAnew(): Promise<Attestation> {
    const nonce = freshNonce();
    const document = await this.#document(nonce);
    return this.#last.keep(await attestationOf(document, { nonce }, this.#options, ["tunnel"]));
  }

  async #document(nonce: Uint8Array): Promise<Uint8Array> {
    try {
      const answer = await this.#fetch(evidenceUrl(this.origin, nonce), {
        credentials: "omit",
        redirect: "error",
        cache: "no-store",
        signal: AbortSignal.timeout(evidenceMs),
      });
      const { bytes, more } = await firstBytes(piecesOf(answer.body), limits.document);
      if (answer.status === 200 && !more) return bytes;
      throw new ChannelError(
        "channel/not-served",
        `${this.origin} serves no evidence: it answers ${answer.status}`,
      );
    } catch (error) {
      if (error instanceof ChannelError || error instanceof VerifyError) throw error;
      throw new ChannelError("channel/unreachable", `no evidence from ${this.origin}: ${messageOf(error)}`);
    }
  }

  /** As the page's fetch, sealed. Throws ChannelError, VerifyError. */
  async fetch(input: string | URL | Request, init?: RequestInit): Promise<Response> {
    const request =
      input instanceof Request ? new Request(input, init) : new Request(new URL(input, this.origin), init);
    if (new URL(request.url).origin !== this.origin) {
      throw new ChannelError("channel/address", `${request.url} is not at ${this.origin}`);
    }
    const again = request.clone();
    try {
      return await this.#send(request);
    } catch (error) {
      if (!(error instanceof KeyChanged)) throw error;
      this.#last.forget();
      try {
        return await this.#send(again);
      } catch (second) {
        if (!(second instanceof KeyChanged)) throw second;
        throw new ChannelError(
          "channel/expired",
          "the guest's keys changed twice while one request was made",
        );
      }
    }
  }

  async #send(request: Request): Promise<Response> {
    const { keys } = await this.attest();
    const carry = (body: Uint8Array<ArrayBuffer>, signal: AbortSignal) =>
      this.#fetch(new URL(channelTunnelPath, this.origin), {
        method: "POST",
        body,
        headers: { "content-type": tunnelTypes.request },
        credentials: "omit",
        redirect: "error",
        cache: "no-store",
        signal,
      });
    return sealedFetch(carry, keys.hpkeConfig, request);
  }
}
