// SPDX-License-Identifier: Apache-2.0
/**
 * For a page that knows nothing of this: its Service Worker seals every request to the guest's origin. It does not see the
 * first load, a reload past caches, requests of pages that it does not control, WebSockets; and its script comes from
 * whoever serves the page.
 */
import { VerifyError } from "@caisson/verify";
import { messageOf } from "@caisson/vocabulary/failure";
import { ChannelError } from "../errors.ts";
import { type AttestationOptions, GuestChannel } from "./fetch.ts";

/** What is used of a worker's scope (the DOM library of TypeScript has pages only). */
export interface WorkerScope {
  addEventListener(type: "fetch", listener: (event: FetchEvent) => void): void;
  addEventListener(type: "install" | "activate", listener: (event: ExtendableEvent) => void): void;
  skipWaiting(): Promise<void>;
  clients: {
    claim(): Promise<void>;
    get(id: string): Promise<{ postMessage(message: Refusal): void } | undefined>;
  };
}
interface ExtendableEvent {
  waitUntil(work: Promise<unknown>): void;
}
interface FetchEvent extends ExtendableEvent {
  readonly request: Request;
  readonly clientId: string;
  respondWith(response: Promise<Response>): void;
}

/** What a page is told of a request of its that was not made, as a message from its worker. */
export interface Refusal {
  type: "caisson/refused";
  url: string;
  /** A stable code, as docs/errors.md has them, or "" for anything else. */
  code: string;
  message: string;
}

/**
 * Seals what the pages of this worker send to `origin`. What is refused fails as a network error does, is never sent
 * otherwise, and is told to the page that asked. To be called in the first turn of the worker's script.
 */
export function sealRequests(scope: WorkerScope, origin: string, options: AttestationOptions): GuestChannel {
  const channel = new GuestChannel(origin, options);
  scope.addEventListener("install", (event) => event.waitUntil(scope.skipWaiting()));
  scope.addEventListener("activate", (event) => event.waitUntil(scope.clients.claim()));
  scope.addEventListener("fetch", (event) => {
    const { request, clientId } = event;
    if (new URL(request.url).origin !== channel.origin) return;
    // Only what seals and asks for evidence goes as it is, and that is made in here, where this listener does not hear it.
    const answer = followed(channel, request);
    event.respondWith(answer.catch(() => Response.error()));
    const told = answer.then(
      () => undefined,
      async (error: unknown) => {
        const code = error instanceof ChannelError || error instanceof VerifyError ? error.code : "";
        const page = await scope.clients.get(clientId);
        page?.postMessage({ type: "caisson/refused", url: request.url, code, message: messageOf(error) });
      },
    );
    event.waitUntil(told);
  });
  return channel;
}

/** As in the Fetch standard. */
const mostRedirects = 20;

/**
 * Follows where the guest leads, as long as it leads to itself: a browser that is handed the redirect follows it outside of
 * this worker, with the body. Throws ChannelError `channel/address`.
 */
async function followed(channel: GuestChannel, request: Request): Promise<Response> {
  let next = request;
  for (let hop = 0; hop <= mostRedirects; hop++) {
    const again = next.clone();
    const answer = await channel.fetch(next);
    const location = answer.headers.get("location");
    if (location === null || !redirects.has(answer.status) || request.redirect === "manual") return answer;
    await answer.body?.cancel();
    const to = new URL(location, next.url);
    if (request.redirect === "error" || to.origin !== channel.origin) {
      throw new ChannelError("channel/address", `${next.url} leads to ${to.origin}, which is not asked`);
    }
    next = await redirected(again, to, answer.status);
  }
  throw new ChannelError("channel/address", `${request.url} leads on more than ${mostRedirects} times`);
}

const redirects = new Set([301, 302, 303, 307, 308]);

/** The request that follows one (Fetch standard, HTTP-redirect fetch). */
async function redirected(request: Request, to: URL, status: number): Promise<Request> {
  const { method, headers, signal } = request;
  const becomesGet = status === 303 ? method !== "HEAD" : status < 303 && method === "POST";
  if (!becomesGet) {
    const isBodiless = method === "GET" || method === "HEAD";
    return new Request(to, {
      method,
      headers,
      signal,
      ...(!isBodiless && { body: await request.arrayBuffer() }),
    });
  }
  const left = new Headers(headers);
  for (const name of ["content-encoding", "content-language", "content-location", "content-type"]) {
    left.delete(name);
  }
  return new Request(to, { headers: left, signal });
}
