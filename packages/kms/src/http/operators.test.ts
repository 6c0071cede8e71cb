// SPDX-License-Identifier: Apache-2.0
/** What anybody may read of what operators decide. */
import { deepEqual, equal, match } from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { createRootSecret } from "../root-secret.ts";
import { openService } from "../service.ts";
import { directoryOf } from "../testing/context.ts";
import { Machine } from "../testing/machine.ts";
import { operatorRoutes } from "./operators.ts";
import type { Requests } from "./requests.ts";
import { Answer, type Request } from "./table.ts";

const machine = new Machine(Date.now());

test("policies are read page by page, each once", async (t) => {
  const data = directoryOf(t);
  createRootSecret(data);
  const policies = directoryOf(t);
  const apps = Array.from({ length: 1001 }, (_, i) => i.toString(16).padStart(4, "0").padEnd(40, "0"));
  for (const app of apps)
    writeFileSync(join(policies, `${app}.json`), JSON.stringify({ ...machine.policyFile(), app }));
  const service = await openService({ data, policies, development: true });
  t.after(() => service.close());
  const refuse: Requests["refuse"] = (_, status, code, message) =>
    new Answer(status, `${code} ${message}`, {});
  const ask = async (query: string) =>
    operatorRoutes(service, { refuse } as Requests)["GET /v1/policies"]!({ query } as Request);
  const found: string[] = [];
  let pages = 0;
  for (let query: string | undefined = ""; query !== undefined; pages++) {
    const { body, headers } = await ask(query);
    found.push(...(JSON.parse(String(body)) as { app: string }[]).map(({ app }) => app));
    query = /^<\/v1\/policies\?(.*)>; rel="next"$/.exec(String(headers["link"]))?.[1];
  }
  deepEqual(found, apps);
  equal(pages, 3);
  for (const query of ["after=0", "after=xx", `after=${"0".repeat(41)}`, `after=${"A".repeat(40)}`]) {
    const { status, body } = await ask(query);
    equal(status, 400, query);
    match(String(body), /^http\/malformed after: /);
  }
});

test("what many ask for is made and held in memory once, until it is another", async (t) => {
  const data = directoryOf(t);
  createRootSecret(data);
  const policies = directoryOf(t);
  const put = (keyVersion: number) =>
    writeFileSync(join(policies, "app.json"), JSON.stringify({ ...machine.policyFile(), keyVersion }));
  put(1);
  let now = 0;
  const service = await openService({ data, policies, development: true, elapsed: () => now });
  t.after(() => service.close());
  const table = operatorRoutes(service, {} as Requests);
  const ask = async (path: "/v1/policies" | "/v1/volumes") =>
    (await table[`GET ${path}`]!({ query: "" } as Request)) as Answer;
  for (const path of ["/v1/policies", "/v1/volumes"] as const) {
    const first = await ask(path);
    equal(first.body instanceof Uint8Array, true);
    equal((await ask(path)).body, first.body, path);
  }
  const shown = async () =>
    (JSON.parse(String((await ask("/v1/policies")).body)) as { keyVersion: number }[]).map(
      (one) => one.keyVersion,
    );
  deepEqual(await shown(), [1]);
  put(2);
  equal(await service.reload(), true);
  deepEqual(await shown(), [2]);
  const before = (await ask("/v1/volumes")).body;
  now += 1000;
  equal((await ask("/v1/volumes")).body === before, false);
});
