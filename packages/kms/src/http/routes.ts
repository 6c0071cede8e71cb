// SPDX-License-Identifier: Apache-2.0
/** What a KMS answers under which path (docs/kms-openapi.yaml): rates for all of it, then a file for each kind of client. */
import { anchorPath } from "@caisson/protocol/volumes";
import { messageOf } from "@caisson/vocabulary/failure";
import type { Connections } from "../connections.ts";
import { KmsError } from "../errors.ts";
import { limits } from "../limits.ts";
import { metricsType } from "../metrics.ts";
import { headPath, newestTranscript } from "../peer-heads.ts";
import { type Rate, RateLimiter } from "../rate-limit.ts";
import type { Service } from "../service.ts";
import { retriable } from "../store/backend.ts";
import { type Head, logHead } from "../store/entries.ts";
import type { Store } from "../store/store.ts";
import { guestRoutes, type ReplicaOptions } from "./guests.ts";
import { operatorRoutes } from "./operators.ts";
import { Requests } from "./requests.ts";
import { Answer, finder, json, type Request, type Table } from "./table.ts";

export interface RouteOptions extends ReplicaOptions {
  /** Requests a second, for each address and for all. */
  perAddress?: Rate;
  common?: Rate;
}

/** Answers whatever is asked; it never throws. */
export function routes(
  service: Service,
  options: RouteOptions,
  connections: Connections,
): (request: Request) => Promise<Answer> {
  const { context, write } = service;
  const { perAddress = limits.perAddress, common = limits.common } = options;
  const limiter = new RateLimiter(perAddress, common);
  const anchors = new RateLimiter(limits.anchors, common);
  const requests = new Requests(service, connections);
  const find = finder(tableOf(service, requests, options));
  return async (asked) => {
    const later = { "retry-after": "1" };
    try {
      const rate = asked.path === anchorPath ? anchors : limiter;
      // Everything, also what is not there.
      if (!rate.take(requests.address(asked), context.elapsed())) {
        const message = "too many requests; try again in a second";
        return requests.refuse(asked, 429, "http/rate-limited", message, later);
      }
      const answer = find(asked);
      return await (answer?.(asked) ??
        requests.refuse(asked, 404, "http/not-found", "there is nothing here"));
    } catch (error) {
      if (retriable(error)) {
        return requests.refuse(asked, 503, "log/unavailable", `not now: ${messageOf(error)}`, later);
      }
      if (error instanceof KmsError && error.code.startsWith("log/")) {
        // A database that lies is not a fault of this KMS's, and may be put right while it runs.
        const { code, message } = error;
        requests.writeSome("store-failed", { code, message });
        return requests.refuse(asked, 503, "log/unavailable", `not now: ${message}   [${code}]`, later);
      }
      write("failed", { error: messageOf(error) });
      return requests.refuse(asked, 500, "http/internal", "the KMS failed on this request");
    }
  };
}

/** Everything that is answered, by method and path. */
export function tableOf(service: Service, requests: Requests, options: ReplicaOptions): Table {
  const { context, metrics, store } = service;
  const identityKey = context.identity.publicKey.toHex();
  return {
    "GET /healthz": () => json({ status: "ok", identityKey }),
    "GET /metrics": () =>
      new Answer(200, metrics.render(store.head.sequence), { "content-type": metricsType }),
    [`GET ${headPath}`]: async (asked) => {
      const nonce = new URLSearchParams(asked.query).has("nonce") ? requests.nonce(asked) : undefined;
      if (nonce instanceof Answer) return nonce;
      const head = await newestHead(store);
      if (nonce === undefined) return json(logHead(head));
      const newest = context.identity.sign(newestTranscript(nonce, head)).toHex();
      return json({ ...logHead(head), newest });
    },
    ...operatorRoutes(service, requests),
    ...guestRoutes(service, requests, options),
  };
}

/** A replica that has stopped because others have another history still says which its own is, so that they stop too. */
async function newestHead(store: Store): Promise<Head> {
  try {
    return await store.refresh();
  } catch (error) {
    if ((error as KmsError).code === "log/split") return store.head;
    throw error;
  }
}
