// SPDX-License-Identifier: Apache-2.0
/** For operators: what they signed, what of it is in force, and where they send what they sign (operators.ts). */
import * as z from "zod";
import { adminPath } from "../operator-request.ts";
import { isRequestError } from "../operators.ts";
import { readRoots } from "../roots.ts";
import type { Service } from "../service.ts";
import type { VolumeBook } from "../volumes/book.ts";
import type { Requests, Schema } from "./requests.ts";
import { Answer, json, type Request, shared, type Table } from "./table.ts";

export function operatorRoutes(service: Service, requests: Requests): Table {
  const { administration, context, write } = service;
  const volumes = onceASecond(context.elapsed, async () => shared(json(await shownVolumes(context.volumes))));
  const policies = shownPolicies(service, requests);
  return {
    "GET /v1/operators": async () => json((await administration.operators()) ?? null),
    "GET /v1/roots": async () => json(await readRoots(service.store)),
    "GET /v1/volumes": volumes,
    "GET /v1/policies": policies,
    "GET /v1/policies/*": async (asked) => {
      const file = await administration.policyFile(asked.last);
      return file === undefined
        ? requests.refuse(asked, 404, "http/not-found", "operators signed no policy for this application")
        : json(file);
    },
    [`POST ${adminPath}`]: async (asked) => {
      const request = await requests.receive(asked, anything);
      if (request instanceof Answer) return request;
      try {
        const changed = await administration.apply(request, service.configuration.files);
        const { action, version, signers } = changed;
        write("changed", { action, version, signers: signers.join(" ") });
        await service.follow();
        return json(changed);
      } catch (error) {
        if (!isRequestError(error)) throw error;
        const status = error.code === "operators/conflict" ? 409 : (statuses[error.code] ?? 400);
        return requests.refuse(asked, status, error.code, error.message);
      }
    },
  };
}

/** Policies on one page, of which the next is named as by RFC 8288. */
const page = 500;

/** Policies in force, in the order of their applications' ids; the same answer until there are others. */
function shownPolicies(service: Service, requests: Requests): (asked: Request) => Answer {
  let last: { of: unknown; after: string; answer: Answer } | undefined;
  return (asked) => {
    const after = new URLSearchParams(asked.query).get("after") ?? "";
    if (!/^(?:(?:[0-9a-f]{24})?[0-9a-f]{40})?$/.test(after)) {
      const message = "after: an application's id, 20 or 32 bytes in lower-case hexadecimal";
      return requests.refuse(asked, 400, "http/malformed", message);
    }
    const { policies } = service.configuration;
    if (last?.of !== policies || last.after !== after) {
      const found = [...policies.following(after).take(page + 1)];
      const shown = found.slice(0, page).map(({ app, digest, keyVersion, version }) => ({
        app,
        digest: digest.toHex(),
        keyVersion,
        version: version ?? null,
      }));
      const more = found.length > page && {
        link: `</v1/policies?after=${shown.at(-1)!.app}>; rel="next"`,
      };
      last = { of: policies, after, answer: shared(json(shown, 200, more || {})) };
    }
    return last.answer;
  };
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
function onceASecond<T>(elapsed: () => number, find: () => Promise<T>): () => Promise<T> {
  let last: { at: number; answer: Promise<T> } | undefined;
  return () => {
    if (last === undefined || elapsed() - last.at >= 1000) {
      last = { at: elapsed(), answer: find() };
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
