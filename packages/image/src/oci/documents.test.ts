// SPDX-License-Identifier: Apache-2.0
import { equal, throws } from "node:assert/strict";
import { test } from "node:test";
import type { ImageErrorCode } from "../errors.ts";
import { chooseImage, type Index, parseIndexOrManifest } from "./documents.ts";

const digest = (n: number) => `sha256:${String(n).padStart(64, "0")}`;
interface Row {
  n: number;
  platform?: string;
  tag?: string;
  attestation?: boolean;
}

/** An index in which image `n` has the digest with that number. */
const index = (...rows: Row[]): Index => ({
  schemaVersion: 2,
  manifests: rows.map(({ n, platform, tag, attestation }) => {
    const [os, architecture, variant] = platform?.split("/") ?? [];
    return {
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      digest: digest(n),
      size: 1,
      ...(platform !== undefined && { platform: { os: os!, architecture: architecture!, variant } }),
      annotations: {
        ...(tag !== undefined && { "org.opencontainers.image.ref.name": tag }),
        ...(attestation === true && { "vnd.docker.reference.type": "attestation-manifest" }),
      },
    };
  }),
});
const amd64 = "linux/amd64";

const chosen: [what: string, index: Index, n: number, tag?: string][] = [
  ["the one for linux/amd64", index({ n: 1, platform: "linux/arm64" }, { n: 2, platform: amd64 }), 2],
  ["one that says no platform and is alone", index({ n: 1 }), 1],
  ["one without a platform beside its attestation", index({ n: 1 }, { n: 2, platform: "unknown/unknown" }), 1],
  ["one beside an attestation that is only annotated so", index({ n: 1 }, { n: 2, attestation: true }), 1],
  ["the same image under two tags", index({ n: 1, tag: "1.0" }, { n: 1, tag: "latest" }), 1],
  ["by its tag", index({ n: 1, tag: "1.0" }, { n: 2, tag: "latest" }), 2, "latest"],
  ["the baseline of several processors", index({ n: 1, platform: "linux/amd64/v3" }, { n: 2, platform: amd64 }), 2],
  ["one beside a nameless signature", index({ n: 1, platform: amd64 }, { n: 2 }), 1],
]; // biome-ignore format: a table
for (const [what, from, n, tag] of chosen) {
  test(`of an index is taken: ${what}`, () => equal(chooseImage(from, "the index", tag).digest, digest(n)));
}

const refused: [what: string, index: Index, code: ImageErrorCode, tag?: string][] = [
  ["nothing", index(), "oci/platform"],
  ["another platform", index({ n: 1, platform: "linux/arm64" }), "oci/platform"],
  ["two for linux/amd64", index({ n: 1, platform: amd64 }, { n: 2, platform: amd64 }), "oci/platform"],
  ["two that say nothing", index({ n: 1 }, { n: 2 }), "oci/platform"],
  ["two by tag, and none named", index({ n: 1, tag: "a", platform: amd64 }, { n: 2, tag: "b" }), "oci/platform"],
  ["a tag that is not there", index({ n: 1, tag: "a" }), "oci/tag", "b"],
  ["only attestations", index({ n: 1, platform: "unknown/unknown" }), "oci/platform"],
]; // biome-ignore format: a table
for (const [what, from, code, tag] of refused) {
  test(`refused: an index with ${what}`, () => throws(() => chooseImage(from, "the index", tag), { code }));
}

const manifest = { schemaVersion: 2, config: { mediaType: "x", digest: digest(1), size: 1 }, layers: [] };
const indexText = { schemaVersion: 2, manifests: [] };
const manifestType = "application/vnd.oci.image.manifest.v1+json";
const indexType = "application/vnd.oci.image.index.v1+json";

const documents: [what: string, document: object, stated: string, is: "index" | "manifest"][] = [
  ["its own type, against what is stated", { ...manifest, mediaType: manifestType }, indexType, "manifest"],
  ["its own type, where nonsense is stated", { ...indexText, mediaType: indexType }, "text/html", "index"],
  ["what is stated, where it says nothing", manifest, manifestType, "manifest"],
  ["its shape, where nobody knows", indexText, "application/octet-stream", "index"],
  ["its shape, where its type is null", { ...manifest, mediaType: null }, "", "manifest"],
];
for (const [what, document, stated, is] of documents) {
  test(`a document is read by ${what}`, () => {
    equal(is in parseIndexOrManifest(JSON.stringify(document), stated, "it"), true);
  });
}

const bad: [what: string, document: object, stated: string, code: ImageErrorCode][] = [
  ["an index and a manifest at once", { ...manifest, ...indexText }, manifestType, "oci/layout"],
  ["a chart", { ...manifest, mediaType: "application/vnd.example.chart" }, manifestType, "oci/media-type"],
  ["an index that says manifest", { ...indexText, mediaType: manifestType }, indexType, "oci/layout"],
  ["something stated that is not an image", manifest, "application/vnd.example.chart", "oci/media-type"],
  ["Docker's first form", { schemaVersion: 1 }, "application/vnd.docker.distribution.manifest.v1+prettyjws", "oci/media-type"],
]; // biome-ignore format: a table
for (const [what, document, stated, code] of bad) {
  test(`refused: ${what}`, () => {
    throws(() => parseIndexOrManifest(JSON.stringify(document), stated, "it"), { code });
  });
}
