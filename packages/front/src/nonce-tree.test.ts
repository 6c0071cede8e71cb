// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects } from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { Crowded, nonceTree, Quotes } from "./nonce-tree.ts";

const nonceOf = (number: number): Uint8Array => new Uint8Array(32).fill(number);
const sha256 = (...parts: Uint8Array[]): string =>
  createHash("sha256").update(Buffer.concat(parts)).digest("hex");

test("three nonces: leaves and nodes have their prefix, and who has no sibling goes up as it is", () => {
  const leaf = (number: number) => Buffer.from(sha256(Uint8Array.of(0), nonceOf(number)), "hex");
  const pair = Buffer.from(sha256(Uint8Array.of(1), leaf(0), leaf(1)), "hex");
  const tree = nonceTree([0, 1, 2].map(nonceOf));
  equal(tree.root.toHex(), sha256(Uint8Array.of(1), pair, leaf(2)));
  const paths = [0, 1, 2].map((index) => tree.path(index).map((step) => step.toHex()));
  deepEqual(paths, [[leaf(1), leaf(2)], [leaf(0), leaf(2)], [pair]].map((path) => path.map((step) => step.toHex())));
}); // biome-ignore format: a list

test("1,024 are served by one quote, those that came first; eight times as many wait, and four of one asker", async () => {
  let asked = 0;
  const quotes = new Quotes(async () => `evidence ${++asked}`);
  const waiting = Array.from({ length: 1024 }, (_, at) => quotes.ask(nonceOf(at % 256)));
  const later = Array.from({ length: 7 * 1024 - 4 }, () => quotes.ask(nonceOf(1)));
  const greedy = {};
  const own = Array.from({ length: 4 }, () => quotes.ask(nonceOf(2), greedy));
  await rejects(quotes.ask(nonceOf(2), greedy), Crowded);
  await rejects(quotes.ask(nonceOf(0)), Crowded);
  const served = await Promise.all(waiting);
  deepEqual(
    served.map(({ index }) => index),
    served.map((_, at) => at),
  );
  deepEqual(new Set(served.map(({ evidence, count }) => `${evidence} of ${count}`)), new Set(["evidence 1 of 1024"]));
  await Promise.all([...later, ...own]);
  deepEqual([(await own[0]!).evidence, (await quotes.ask(nonceOf(2), greedy)).evidence], ["evidence 8", "evidence 9"]);
}); // biome-ignore format: a list

test("a quote that fails is an answer to all who waited for it, and the next ones are asked for", async () => {
  let fails = true;
  const quotes = new Quotes(async () => {
    if (fails) throw new Error("no quote");
    return "evidence";
  });
  const [one, two] = [quotes.ask(nonceOf(1)), quotes.ask(nonceOf(2))];
  await rejects(one, /no quote/);
  await rejects(two, /no quote/);
  fails = false;
  equal((await quotes.ask(nonceOf(3))).count, 1);
});
