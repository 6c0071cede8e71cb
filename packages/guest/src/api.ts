// SPDX-License-Identifier: Apache-2.0
/**
 * The application's window into its guest: HTTP over the Unix socket `/run/caisson.sock`.
 *
 *   GET  /info                                 who this is
 *   POST /key       {"path", "purpose"}        a key of 32 bytes derived from the released one
 *   POST /evidence  {"nonce": hex}             fresh evidence over report data of scheme `caisson/app/v1`
 *   POST /checkpoint                           everything written to persistent volumes is kept, whatever happens now
 *   GET  /live                                 what the guest sees of itself, for audits; development images only
 *
 * Nothing here extends a register. Requests are bounded (`unix-server.ts`); a quote is made one at a time.
 */

import type { IncomingMessage, Server } from "node:http";
import { deriveApplicationKey } from "@caisson/protocol/derivation";
import { reportData } from "@caisson/verify/report-data";
import { messageOf } from "@caisson/vocabulary/failure";
import * as z from "zod/mini";
import { liveReport } from "./live.ts";
import type { Context } from "./stage.ts";
import { Refused, readJson, type SocketOwner, serveJson } from "./unix-server.ts";

const bodyLimit = 4096;
const name = z.string().check(z.regex(/^[\w./-]{1,256}$/));
const keyRequest = z.strictObject({ path: name, purpose: name });
const evidenceRequest = z.strictObject({ nonce: z.string().check(z.regex(/^(?:[0-9a-f]{2}){8,64}$/)) });

const hex = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString("hex");

function checked<T>(schema: z.ZodMiniType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new Refused(400, `${issue?.path.join(".") || "request"}: ${issue?.message}`);
}

/** What the socket answers; `route` is `"GET /info"` and the like. Throws Refused. */
async function answer(context: Context, route: string, request: IncomingMessage): Promise<unknown> {
  switch (route) {
    case "GET /info":
      return {
        name: context.config.app.name,
        flavour: context.config.flavour,
        platform: context.platform.name,
        appId: hex(context.appId),
        instanceId: hex(context.instanceId),
        keyProvider: context.keys?.kms ?? null,
        keyProviderUrl: context.instance?.kms?.url ?? null,
        clockAlarm: context.clockAlarm === true,
      };
    case "POST /key": {
      const { path, purpose } = checked(keyRequest, await readJson(request, bodyLimit));
      if (context.keys === undefined) throw new Refused(404, "this application has no key provider");
      if (context.clockAlarm === true)
        throw new Refused(503, "keys are frozen: the clock and its sources disagree");
      return { key: hex(deriveApplicationKey(context.keys.root, path, purpose)) };
    }
    case "POST /evidence": {
      const { nonce } = checked(evidenceRequest, await readJson(request, bodyLimit));
      const bound = await reportData("caisson/app/v1", { nonce: Buffer.from(nonce, "hex") });
      return context.attest(bound, { scheme: "caisson/app/v1", fields: { nonce } });
    }
    case "POST /checkpoint": {
      if (context.keeper === undefined) throw new Refused(404, "this application has no persistent volume");
      try {
        return { generations: await context.keeper.checkpoint() };
      } catch (error) {
        throw new Refused(503, messageOf(error));
      }
    }
    case "GET /live":
      if (context.config.flavour !== "development")
        throw new Refused(404, "only a development image tells this");
      return liveReport("/", context.syscalls);
    default:
      throw new Refused(404, `there is no ${route}`);
  }
}

/** Starts serving at `path`, which then belongs to `owner`. A connection on which nothing moves for `silence` is closed. */
export function serveApplication(
  context: Context,
  path: string,
  owner: SocketOwner,
  silence?: number,
): Promise<Server> {
  const respond = (request: IncomingMessage) => answer(context, `${request.method} ${request.url}`, request);
  return serveJson(path, owner, respond, silence);
}
