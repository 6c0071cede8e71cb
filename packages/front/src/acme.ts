// SPDX-License-Identifier: Apache-2.0
/**
 * A public certificate over the attested key: ACME (RFC 8555) with one challenge, tls-alpn-01 (RFC 8737), which the front
 * answers itself on its own port.
 *
 * Invariants: the certificate's key is the attested one, and what comes back is used only if it says so; the account's key
 * follows from the application's, so that a CAA record can name the account; whoever runs the authority can deny a
 * certificate, or give one to others, and clients that check evidence are not moved by either.
 */
import { createHash, createPublicKey, type KeyObject, sign, X509Certificate } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { createSecureContext } from "node:tls";
import type { CertificateReport } from "@caisson/protocol/certificate-report";
import { firstBytes } from "@caisson/vocabulary/body";
import { messageOf } from "@caisson/vocabulary/failure";
import * as z from "zod/mini";
import { certificateRequest, challengeCertificate } from "./certificate.ts";
import { AcmeError } from "./errors.ts";
import type { Front } from "./server.ts";

const https = process.getBuiltinModule("node:https");

const answerLimit = 256 << 10;
const requestMs = 30_000;
/** RFC 8555, section 6.5: a nonce may be refused at any time, with a new one. */
const nonceAttempts = 20;
/** For an order to be validated and signed. */
const orderMs = 180_000;
const pollMs = 2_000;
const [firstPauseMs, longestPauseMs] = [60_000, 6 * 3_600_000];

const url = z.string().check(z.regex(/^https:\/\/[^\s]+$/), z.maxLength(2048));
const directorySchema = z.object({
  newNonce: url,
  newAccount: url,
  newOrder: url,
  meta: z.optional(
    z.object({ caaIdentities: z.optional(z.array(z.string().check(z.regex(/^[A-Za-z0-9.-]+$/)))) }),
  ),
});
const orderSchema = z.object({
  status: z.string(),
  authorizations: z.array(url),
  finalize: url,
  certificate: z.optional(url),
});
const authorizationSchema = z.object({
  status: z.string(),
  identifier: z.object({ type: z.string(), value: z.string() }),
  challenges: z.array(z.object({ type: z.string(), url, token: z.optional(z.string()) })),
});

export interface AcmeOptions {
  directory: string;
  /** P-256. */
  accountKey: KeyObject;
  /** PEM of the only roots that vouch for the directory; the public ones, which Node carries, when left out. */
  roots?: string;
}

interface Answered {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
}

/** Parses what the authority says. Throws AcmeError `acme/protocol`. */
function read<Schema extends z.ZodMiniType>(schema: Schema, text: string, what: string): z.infer<Schema> {
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw new AcmeError("acme/protocol", `the authority's ${what} is not one`, cause);
  }
}

/** Where the authority says that something is. Throws AcmeError `acme/protocol`. */
const locationOf = ({ headers }: Answered): string =>
  read(url, JSON.stringify(headers["location"] ?? ""), "address");

const base64url = (bytes: Uint8Array | string): string => Buffer.from(bytes).toString("base64url");

export class AcmeClient {
  readonly #options: AcmeOptions;
  readonly #jwk: object;
  #directory: z.infer<typeof directorySchema> | undefined;
  #nonce: string | undefined;
  /** The account's address, which CAA's `accounturi` names (RFC 8657). */
  account: string | undefined;

  constructor(options: AcmeOptions) {
    this.#options = options;
    const { crv, kty, x, y } = createPublicKey(options.accountKey).export({ format: "jwk" });
    this.#jwk = { crv, kty, x, y };
  }

  /** `token` and the account key's thumbprint (RFC 7638). */
  authorization(token: string): string {
    const thumbprint = createHash("sha256").update(JSON.stringify(this.#jwk)).digest();
    return `${token}.${base64url(thumbprint)}`;
  }

  /** The domain by which CAA records name the authority: what it says itself (RFC 8555, section 7.1.1), or its host. */
  get authority(): string {
    const [identity] = this.#directory?.meta?.caaIdentities ?? [];
    return identity ?? new URL(this.#options.directory).hostname;
  }

  /** Registers the account, or finds it. */
  async register(): Promise<string> {
    const { text } = await this.#ask("GET", this.#options.directory);
    this.#directory = read(directorySchema, text, "directory");
    // It is asked for by its key, the second time, too (RFC 8555, section 7.3.1).
    this.account = undefined;
    const answer = await this.#post(this.#directory.newAccount, { termsOfServiceAgreed: true });
    this.account = locationOf(answer);
    return this.account;
  }

  /**
   * PEM chain over `key` for these names. `prove` shows a key authorization for a name until it resolves' function is
   * called.
   */
  async certificate(
    names: readonly string[],
    key: KeyObject,
    prove: (name: string, authorization: string) => () => void,
  ): Promise<string> {
    await this.register();
    const identifiers = names.map((value) => ({ type: "dns", value }));
    const ordered = await this.#post(this.#directory!.newOrder, { identifiers });
    const order = read(orderSchema, ordered.text, "order");
    const where = locationOf(ordered);
    for (const address of order.authorizations) await this.#authorize(address, prove);
    await this.#post(order.finalize, { csr: base64url(certificateRequest(key, names)) });
    const done = await this.#until(where, orderSchema, ({ status }) => status === "valid");
    if (done.certificate === undefined)
      throw new AcmeError("acme/protocol", "a valid order has no certificate");
    const { text: chain } = await this.#post(done.certificate, "");
    checkChain(chain, names, key);
    return chain;
  }

  async #authorize(
    address: string,
    prove: (name: string, authorization: string) => () => void,
  ): Promise<void> {
    const { text } = await this.#post(address, "");
    const { status, identifier, challenges } = read(authorizationSchema, text, "authorization");
    if (status === "valid") return;
    const challenge = challenges.find(({ type }) => type === "tls-alpn-01");
    if (challenge?.token === undefined || !/^[A-Za-z0-9_-]{1,512}$/.test(challenge.token)) {
      throw new AcmeError("acme/challenge", `the authority offers no tls-alpn-01 for ${identifier.value}`);
    }
    const end = prove(identifier.value, this.authorization(challenge.token));
    try {
      await this.#post(challenge.url, {});
      await this.#until(address, authorizationSchema, (one) => one.status === "valid");
    } finally {
      end();
    }
  }

  /** Asks again until it is so. Throws AcmeError where it never will be, or takes too long. */
  async #until<Schema extends typeof orderSchema | typeof authorizationSchema>(
    address: string,
    schema: Schema,
    reached: (value: z.infer<Schema>) => boolean,
  ): Promise<z.infer<Schema>> {
    const limit = performance.now() + orderMs;
    while (performance.now() < limit) {
      const { text } = await this.#post(address, "");
      const value = read(schema, text, "answer") as z.infer<Schema>;
      if (reached(value)) return value;
      if (value.status === "invalid")
        throw new AcmeError("acme/refused", `the authority refuses: ${whyInvalid(text)}`);
      await sleep(pollMs);
    }
    throw new AcmeError("acme/late", `the authority took more than ${orderMs / 1000} s`);
  }

  /** A signed request; "" is POST-as-GET. Nonces that are refused are replaced. */
  async #post(address: string, payload: object | ""): Promise<Answered> {
    for (let attempt = 1; ; attempt++) {
      this.#nonce ??= nonceOf(await this.#ask("HEAD", this.#directory!.newNonce));
      const identity = this.account === undefined ? { jwk: this.#jwk } : { kid: this.account };
      const header = base64url(
        JSON.stringify({ alg: "ES256", nonce: this.#nonce, url: address, ...identity }),
      );
      const body = payload === "" ? "" : base64url(JSON.stringify(payload));
      const { accountKey } = this.#options;
      const signature = sign("sha256", Buffer.from(`${header}.${body}`), {
        key: accountKey,
        dsaEncoding: "ieee-p1363",
      });
      const signed = JSON.stringify({ protected: header, payload: body, signature: base64url(signature) });
      this.#nonce = undefined;
      const answer = await this.#ask("POST", address, signed);
      this.#nonce = nonceOf(answer);
      if (answer.status < 400) return answer;
      const { type, detail } = problemOf(answer.text);
      if (type.endsWith(":badNonce") && attempt < nonceAttempts) continue;
      throw new AcmeError("acme/refused", `${address} answers ${answer.status}: ${type} ${detail}`);
    }
  }

  #ask(method: string, address: string, body?: string): Promise<Answered> {
    const { roots } = this.#options;
    return new Promise((resolve, reject) => {
      const fail = (error: Error) => {
        clearTimeout(timer);
        reject(new AcmeError("acme/unreachable", `no answer from ${address}: ${error.message}`, error));
      };
      const request = https.request(
        address,
        {
          method,
          agent: false,
          ...(roots !== undefined && { ca: roots }),
          headers: {
            "user-agent": "caisson",
            ...(body !== undefined && { "content-type": "application/jose+json" }),
          },
        },
        (response) => {
          firstBytes(response, answerLimit).then(({ bytes }) => {
            clearTimeout(timer);
            const { statusCode = 0, headers } = response;
            resolve({ status: statusCode, headers, text: new TextDecoder().decode(bytes) });
          }, fail);
        },
      );
      const timer = setTimeout(() => request.destroy(new Error(`not in ${requestMs / 1000} s`)), requestMs);
      request.once("error", fail);
      request.end(body);
    });
  }
}

const nonceOf = ({ headers }: Answered): string | undefined => {
  const nonce = headers["replay-nonce"];
  return typeof nonce === "string" && /^[A-Za-z0-9_-]{1,512}$/.test(nonce) ? nonce : undefined;
};

const problemSchema = z.object({ type: z.string(), detail: z.optional(z.string()) });

/** RFC 7807, as far as it is one. */
function problemOf(text: string): { type: string; detail: string } {
  try {
    const { type, detail = "" } = problemSchema.parse(JSON.parse(text));
    return { type: type.slice(0, 100), detail: detail.slice(0, 300) };
  } catch {
    return { type: "", detail: "" };
  }
}

const invalidSchema = z.object({
  challenges: z.optional(z.array(z.object({ error: z.optional(z.unknown()) }))),
  error: z.optional(z.unknown()),
});

/** What an authorization, or an order, says of why it is invalid. */
function whyInvalid(text: string): string {
  const { error, challenges = [] } = invalidSchema.safeParse(JSON.parse(text)).data ?? {};
  const found = error ?? challenges.find((challenge) => challenge.error !== undefined)?.error;
  const { type, detail } = problemOf(JSON.stringify(found ?? {}));
  return `${type} ${detail}`.trim() || "it does not say why";
}

/** Throws AcmeError unless the chain's first certificate is over this key and for these names. */
function checkChain(chain: string, names: readonly string[], key: KeyObject): void {
  const certificate = firstOf(chain);
  if (!certificate.checkPrivateKey(key))
    throw new AcmeError("acme/certificate", "the certificate is over another key");
  const missing = names.find((name) => certificate.checkHost(name) === undefined);
  if (missing !== undefined) throw new AcmeError("acme/certificate", `the certificate is not for ${missing}`);
}

function firstOf(chain: string): X509Certificate {
  try {
    return new X509Certificate(chain);
  } catch (cause) {
    throw new AcmeError("acme/protocol", "the authority's certificate is not one", cause);
  }
}

/** When a certificate ends, and when it is renewed: after two thirds of its life. Milliseconds since 1970. */
export function datesOf(chain: string): { notAfter: number; renewal: number } {
  const { validFrom, validTo } = new X509Certificate(chain);
  const [from, to] = [Date.parse(validFrom), Date.parse(validTo)];
  return { notAfter: to, renewal: from + ((to - from) * 2) / 3 };
}

/** Until a time. A timer holds at most 24 days; it is the front's socket that keeps the process. */
async function until(time: number): Promise<void> {
  for (let left = time - Date.now(); left > 0; left = time - Date.now()) {
    await sleep(Math.min(left, 12 * 3_600_000), undefined, { ref: false });
  }
}

/** Gets a certificate and renews it, for as long as the front runs; until there is one, the self-signed stays. */
export async function keepCertificate(
  front: Pick<Front, "setCertificate" | "setChallenge">,
  key: KeyObject,
  names: readonly string[],
  options: AcmeOptions,
  report: (what: CertificateReport) => void,
): Promise<void> {
  const client = new AcmeClient(options);
  const pem = key.export({ format: "pem", type: "pkcs8" }) as string;
  const prove = (name: string, authorization: string) => {
    const cert = challengeCertificate(key, name, authorization, Date.now());
    front.setChallenge(createSecureContext({ key: pem, cert, minVersion: "TLSv1.2" }), name);
    return () => front.setChallenge(undefined);
  };
  for (let pause = firstPauseMs; ; ) {
    try {
      const chain = await client.certificate(names, key, prove);
      front.setCertificate(chain);
      pause = firstPauseMs;
      const { notAfter, renewal: due } = datesOf(chain);
      // One that is nearly over when it comes must not be asked for in a loop.
      const renewal = Math.max(due, Date.now() + firstPauseMs);
      report({
        state: "issued",
        authority: client.authority,
        account: client.account!,
        notAfter: new Date(notAfter).toISOString(),
        renewal: new Date(renewal).toISOString(),
      });
      await until(renewal);
    } catch (error) {
      const reason = error instanceof AcmeError ? error.code : "acme/protocol";
      report({ state: "failed", reason, message: messageOf(error).slice(0, 1000), again: pause / 1000 });
      await sleep(pause, undefined, { ref: false });
      pause = Math.min(longestPauseMs, 2 * pause);
    }
  }
}
