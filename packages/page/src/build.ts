// SPDX-License-Identifier: Apache-2.0
/** Builds the page: one HTML file with its code, style and examples in it, which may load and send nothing. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { type BuildOptions, build } from "esbuild";
import { type Example, examples } from "./examples.ts";

export { readExamples } from "./example-files.ts";
export { type Example, examples } from "./examples.ts";

const here = new URL("./", import.meta.url);

/** Sources of a content security policy are hashes of exactly what stands between the tags. */
const hashOf = (text: string): string => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

/** JSON that cannot end its element early. */
const inScript = (value: unknown): string => JSON.stringify(value).replaceAll("<", "\\u003c");

/** One ES module, minified, without polyfills: any import of Node's is an error. */
export const forBrowsers = {
  bundle: true,
  minify: true,
  write: false,
  format: "esm",
  platform: "browser",
  target: "es2024",
} as const satisfies BuildOptions;

/** The page; `own` examples stand before those of the test PKIs. */
export async function buildPage(own: readonly Example[] = []): Promise<string> {
  const bundle = await build({
    entryPoints: [new URL("app.ts", here).pathname],
    ...forBrowsers,
    legalComments: "none",
  });
  const code = bundle.outputFiles[0]!.text.replaceAll("</script", "<\\/script");
  const style = readFileSync(new URL("page.css", here), "utf8");
  const policy = [
    "default-src 'none'",
    `script-src ${hashOf(code)}`,
    `style-src ${hashOf(style)}`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>Caisson: verify evidence</title>
<style>${style}</style>
<header>
<h1>Verify evidence of a confidential guest</h1>
<p class="quiet">This page loads nothing and sends nothing; what you drop stays in it. Who serves it could serve another one: keep your own copy.</p>
</header>
<main>
<section id="drop" aria-labelledby="drop-label">
<p id="drop-label"><b>Drop files here</b>, all at once or one after the other: a quote, a SEV-SNP report or any other evidence; a policy; a manifest or a file of <code>caisson measure --json</code>; collateral.</p>
<label for="chooser">or choose them</label>
<input id="chooser" type="file" multiple>
<details><summary>or paste one</summary>
<label for="text">hexadecimal, base64, JSON or YAML</label>
<textarea id="text" rows="4" spellcheck="false"></textarea>
<button id="take" type="button">Take it</button>
</details>
</section>
<div class="row">
<div><label for="nonce">Nonce that must be bound (hexadecimal)</label><input id="nonce" type="text" spellcheck="false" autocomplete="off"></div>
<div><label for="at">Judge as of (ISO 8601; now when empty)</label><input id="at" type="text" spellcheck="false" autocomplete="off"></div>
</div>
<ul id="files" aria-label="files"></ul>
<ul id="problems" class="fail" role="alert"></ul>
<button id="clear" type="button" hidden>Begin anew</button>
<details id="examples-place" open><summary>Examples: ${own.length === 0 ? "" : "given to this page, and "}minted by a test PKI, right ones and forged ones</summary>
<ul id="examples"></ul>
</details>
<section id="result" tabindex="-1" aria-live="polite" aria-label="report"></section>
</main>
<script type="application/json" id="examples-data">${inScript([...own, ...(await examples())])}</script>
<script type="module">${code}</script>
</html>
`;
}
