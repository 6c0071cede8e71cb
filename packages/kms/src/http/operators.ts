// SPDX-License-Identifier: Apache-2.0
/** For operators: what they signed, what of it is in force, and where they send what they sign (operators.ts). */
import type { Hono } from "hono";
import * as z from "zod";
import { isRequestError } from "../operators.ts";
import { readRoots } from "../roots.ts";
import type { Service } from "../service.ts";
import type { VolumeBook } from "../volumes/book.ts";
import type { Environment, Requests, Schema } from "./requests.ts";

export function operatorRoutes(app: Hono<Environment>, service: Service, requests: Requests): void {
  const { administration, context, write } = service;
  app.get("/v1/operators", async (c) => c.json((await administration.operators()) ?? null));
  app.get("/v1/roots", async (c) => c.json(await readRoots(service.store)));
  const volumes = onceASecond(context.now, () => shownVolumes(context.volumes));
  app.get("/v1/volumes", async (c) => c.json(await volumes()));
  app.get("/v1/policies", (c) =>
    c.json(
      [...service.configuration.policies].map(([id, { digest, keyVersion }]) => ({
        app: id,
        digest: digest.toHex(),
        keyVersion,
        version: administration.inForce.policies.get(id)?.version ?? null,
      })),
    ),
  );
  app.get("/v1/policies/:app", async (c) => {
    const file = await administration.policyFile(c.req.param("app"));
    return file === undefined
      ? requests.refuse(c, 404, "http/not-found", "operators signed no policy for this application")
      : c.json(file);
  });
  app.post("/v1/admin", async (c) => {
    const request = await requests.receive(c, anything);
    if (request instanceof Response) return request;
    try {
      const changed = await administration.apply(request);
      const { action, version, signers } = changed;
      write("changed", { action, version, signers: signers.join(" ") });
      await service.reload();
      return c.json(changed);
    } catch (error) {
      if (!isRequestError(error)) throw error;
      const status = error.code === "operators/conflict" ? 409 : (statuses[error.code] ?? 400);
      return requests.refuse(c, status, error.code, error.message);
    }
  });
}

/** What an operator has to know to have a word about them; the seeds of instances are their hosts' affair. */
async function shownVolumes(book: VolumeBook) {
  const operations = await book.operations();
  const volumes = (await book.list()).map(({ volume, owner, name, state, suspect, epoch, time }) => {
    return { volume, owner, name, state, suspect, epoch: String(epoch), time };
  });
  return { operations, volumes };
}

/** The last answer for a second: anybody may ask, and finding it reads much. */
function onceASecond<T>(now: () => number, find: () => Promise<T>): () => Promise<T> {
  let last: { at: number; answer: Promise<T> } | undefined;
  return () => {
    if (last === undefined || Math.abs(now() - last.at) >= 1000) {
      last = { at: now(), answer: find() };
      last.answer.catch(() => {
        last = undefined;
      });
    }
    return last.answer;
  };
}

/** The envelope's own reader says what is wrong with it. */
const anything: Schema<object> = z.looseObject({});

/** Of requests that operators did not sign, or not in time. */
const statuses: Record<string, 403> = {
  "operators/signatures": 403,
  "operators/expired": 403,
  "operators/other-kms": 403,
};
