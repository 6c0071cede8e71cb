// SPDX-License-Identifier: Apache-2.0
/** A page in Chromium that sees one bundle and nothing else of the world. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { chromium } from "playwright-core";

/**
 * Opens `script`, a module that may import "/bundle.js" and sets `window.judge`; the result calls that with what JSON
 * can say. Browser and server end with the test.
 */
export async function browserPage(
  t: TestContext,
  bundle: string,
  script: string,
): Promise<(input: object) => Promise<unknown>> {
  const page = `<!doctype html><script type="module">${script}</script>`;
  const server = createServer((request, response) => {
    const code = request.url === "/bundle.js";
    response.setHeader("content-type", code ? "text/javascript" : "text/html");
    // What is judged here must live without eval and without any other origin.
    response.setHeader("content-security-policy", "default-src 'none'; script-src 'self' 'unsafe-inline'");
    response.end(code ? bundle : page);
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    headless: true,
    args: ["--no-sandbox"],
  });
  t.after(() => browser.close());
  const tab = await browser.newPage();
  await tab.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  await tab.waitForFunction("window.judge !== undefined");
  return (input) => tab.evaluate(`window.judge(${JSON.stringify(input)})`);
}
