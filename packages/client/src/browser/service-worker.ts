// SPDX-License-Identifier: Apache-2.0
/**
 * For a page that knows nothing of this: its Service Worker seals every request to the guest's origin. It does not see the
 * first load, navigations, WebSockets; and its script comes from whoever serves the page.
 */
import { type AttestationOptions, GuestChannel } from "./fetch.ts";

/** What is used of a worker's scope (the DOM library of TypeScript has pages only). */
export interface WorkerScope {
  addEventListener(type: "fetch", listener: (event: FetchEvent) => void): void;
  addEventListener(type: "install" | "activate", listener: (event: ExtendableEvent) => void): void;
  skipWaiting(): Promise<void>;
  clients: { claim(): Promise<void> };
}
interface ExtendableEvent {
  waitUntil(work: Promise<unknown>): void;
}
interface FetchEvent {
  readonly request: Request;
  respondWith(response: Promise<Response>): void;
}

/** Seals what the pages of this worker send to `origin`. What is refused fails as a network error does, and is never sent otherwise. */
export function sealRequests(scope: WorkerScope, origin: string, options: AttestationOptions): GuestChannel {
  const channel = new GuestChannel(origin, options);
  scope.addEventListener("install", (event) => event.waitUntil(scope.skipWaiting()));
  scope.addEventListener("activate", (event) => event.waitUntil(scope.clients.claim()));
  scope.addEventListener("fetch", (event) => {
    if (new URL(event.request.url).origin !== channel.origin) return;
    // Only what seals and asks for evidence goes as it is, and that is made in here, where this listener does not hear it.
    event.respondWith(channel.fetch(event.request).catch(() => Response.error()));
  });
  return channel;
}
