// SPDX-License-Identifier: Apache-2.0
/** What a KMS answers under which path (docs/kms-openapi.yaml): rates for all of it, then a file for each kind of client. */
import { anchorPath } from "@caisson/protocol/volumes";
import { Hono } from "hono";
import type { Connections } from "../connections.ts";
import type { KmsError } from "../errors.ts";
import { limits } from "../limits.ts";
import { metricsType } from "../metrics.ts";
import { headPath } from "../peer-heads.ts";
import { type Rate, RateLimiter } from "../rate-limit.ts";
import type { Service } from "../service.ts";
import { retriable } from "../store/backend.ts";
import { type Head, logHead } from "../store/entries.ts";
import type { Store } from "../store/store.ts";
import { guestRoutes, type ReplicaOptions } from "./guests.ts";
import { operatorRoutes } from "./operators.ts";
import { type Environment, Requests } from "./requests.ts";

export interface RouteOptions extends ReplicaOptions {
  /** Requests a second, for each address and for all. */
  perAddress?: Rate;
  common?: Rate;
}

export function routes(service: Service, options: RouteOptions, connections: Connections): Hono<Environment> {
  const { context, metrics, write } = service;
  const { perAddress = limits.perAddress, common = limits.common } = options;
  const limiter = new RateLimiter(perAddress, common);
  const anchors = new RateLimiter(limits.anchors, limits.common);
  const requests = new Requests(service, connections);
  const app = new Hono<Environment>();
  app.onError((error, c) => {
    if (retriable(error)) {
      c.header("retry-after", "1");
      return requests.refuse(c, 503, "log/unavailable", `not now: ${error.message}`);
    }
    write("failed", { error: error.message });
    return requests.refuse(c, 500, "http/internal", "the KMS failed on this request");
  });
  app.notFound((c) => requests.refuse(c, 404, "http/not-found", "there is nothing here"));
  // Everything, also what is not there.
  app.use(async (c, next) => {
    const rate = c.req.path === anchorPath ? anchors : limiter;
    if (rate.take(requests.address(c), context.now())) return next();
    c.header("retry-after", "1");
    return requests.refuse(c, 429, "http/rate-limited", "too many requests; try again in a second");
  });
  app.get("/healthz", (c) => c.json({ status: "ok", identityKey: context.identity.publicKey.toHex() }));
  app.get("/metrics", (c) =>
    c.body(metrics.render(service.store.head.sequence), 200, { "content-type": metricsType }),
  );
  app.get(headPath, async (c) => c.json(logHead(await newestHead(service.store))));
  operatorRoutes(app, service, requests);
  guestRoutes(app, service, requests, options);
  return app;
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
