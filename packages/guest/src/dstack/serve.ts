// SPDX-License-Identifier: Apache-2.0
/** dstack.sock and tappd.sock: dstack's guest-agent API for a service that asks for it. */
import type { IncomingMessage, Server } from "node:http";
import { description } from "@caisson/protocol/guest-config";
import type { Context } from "../stage.ts";
import { Refused, readJson, type SocketOwner, serveJson } from "../unix-server.ts";
import { AgentRefusal, answer, type Guest } from "./agent.ts";
import { applicationSecret } from "./keys.ts";

const bodyLimit = 256 << 10;

function guestOf(context: Context): Guest {
  const { config, platform } = context;
  return {
    name: config.app.name,
    platform: platform.name,
    appId: context.appId!,
    instanceId: context.instanceId!,
    description: description(config),
    secret: () =>
      context.keys === undefined || context.clockAlarm === true
        ? undefined
        : applicationSecret(context.keys.root),
    quote: (reportData) => platform.quote(reportData),
    bootLog: () => platform.bootLog(),
    events: () => context.events(),
    now: () => Math.floor(Date.now() / 1000),
  };
}

/** Paths of both sockets: `/GetKey`, `/prpc/DstackGuest.GetKey` and `/prpc/Tappd.DeriveKey`. */
const route = /^\/(?:prpc\/)?(?:DstackGuest\.)?((?:Tappd\.)?[A-Za-z]+)$/;

async function respond(guest: Guest, request: IncomingMessage): Promise<object> {
  const { pathname, searchParams } = new URL(request.url ?? "/", "http://guest");
  const method = route.exec(pathname)?.[1];
  if (method === undefined) throw new Refused(404, "there is no such path");
  const wanted =
    request.method === "GET" ? Object.fromEntries(searchParams) : await readJson(request, bodyLimit);
  try {
    return await answer(guest, method, wanted);
  } catch (error) {
    if (!(error instanceof AgentRefusal)) throw error;
    // The JavaScript SDK looks at no status: JSON would be success to it where it reads nothing of the answer.
    throw new Refused(400, error.message, method === "EmitEvent");
  }
}

/** Starts serving at `path`, which then belongs to `owner`. */
export function serveDstack(context: Context, path: string, owner: SocketOwner): Promise<Server> {
  const guest = guestOf(context);
  return serveJson(path, owner, (request) => respond(guest, request));
}
