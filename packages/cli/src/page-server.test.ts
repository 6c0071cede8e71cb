// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match } from "node:assert/strict";
import { request } from "node:http";
import test, { type TestContext } from "node:test";
import { servePage } from "./page-server.ts";

async function serve(t: TestContext, make: () => Promise<string>) {
  const page = await servePage(make);
  t.after(() => page.close());
  return page.url;
}

/** Status and body; with a Host of one's own, which fetch does not allow. */
const ask = (url: string, headers: Record<string, string> = {}, method = "GET") =>
  new Promise<[number | undefined, string]>((resolve, reject) => {
    const sent = request(url, { headers, method }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => (body += text));
      response.on("end", () => resolve([response.statusCode, body]));
    });
    sent.once("error", reject).end();
  });

test("the page is made once, when it is asked for, and not at all for others", async (t) => {
  let made = 0;
  const url = await serve(t, async () => `<p>${++made}`);
  match(url, /^http:\/\/127\.0\.0\.1:\d+\/$/);
  equal(made, 0);
  equal((await ask(url, { host: "attacker.example:80" }))[0], 404);
  equal((await ask(new URL("other", url).href))[0], 404);
  equal((await ask(url, {}, "POST"))[0], 404);
  equal(made, 0);
  deepEqual(await Promise.all([ask(url), ask(url)]), [
    [200, "<p>1"],
    [200, "<p>1"],
  ]);
});

test("what making it fails with is said, and tried again", async (t) => {
  let times = 0;
  const url = await serve(t, async () => {
    times += 1;
    if (times === 1) throw new Error("no evidence yet");
    return "page";
  });
  deepEqual(await ask(url), [500, "no evidence yet\n"]);
  deepEqual(await ask(url), [200, "page"]);
});
