// SPDX-License-Identifier: Apache-2.0
import { within } from "../sabotage.ts";

export const front = within("packages/front/src", [
  [
    "requests that were taken back at once reach the application",
    "server.ts",
    "if (!response.stream.closed)",
    "",
    "attacks.test.ts",
  ],
  [
    "a request may name several hosts",
    "exchange.ts",
    "if (new Set(hosts).size !== 1 ||",
    "if (",
    "server.test.ts",
  ],
  [
    "a field that decides may be there twice",
    "exchange.ts",
    "    if (found !== undefined) throw new FrontRefusal(400, `${wanted} is there twice`);",
    "",
    "exchange.test.ts",
  ],
  [
    "a recorded sealed request is taken again",
    "sealed.ts",
    '    if (this.#seen.has(enc)) throw new FrontRefusal(409, "this request was taken already");',
    "",
    "sealed.test.ts",
  ],
  [
    "a sealed request whose first chunk comes later does not say that the key is another",
    "sealed.ts",
    "        return front.reader.push(chunks).catch(refusalOf(front.reader));",
    "        return chunks === piece ? front.reader.push(chunks) : front.reader.push(chunks).catch(refusalOf(front.reader));",
    "sealed.test.ts",
  ],
  [
    "sealed bodies have no limit",
    "sealed.ts",
    "    if (now > most + (most >> 3)) throw",
    "    if (false) throw",
    "sealed.test.ts",
  ],
  [
    "what one sealed request holds is given back before the application took it",
    "sealed.ts",
    "    return this.#upstream.ask(outgoing, response).finally(() => {",
    "    return (this.#give(request), this.#upstream.ask(outgoing, response)).finally(() => {",
    "attacks.test.ts",
  ],
  [
    "connections are upgraded where sealed requests are required",
    "upgrades.ts",
    '    if (this.#require === "encrypted") return fail(403);',
    "",
    "sealed.test.ts",
  ],
  [
    "nonces wait without end",
    "nonce-tree.ts",
    "    if (held >= mostOfOne || this.#waiting.length >= mostWaiting) return Promise.reject(new Crowded());",
    "",
    "nonce-tree.test.ts",
  ],
]);
