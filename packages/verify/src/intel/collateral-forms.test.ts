// SPDX-License-Identifier: Apache-2.0
/** The same collateral in every form in which it is handed around comes out as one, byte for byte. */
import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "node:test";
import { hierarchy, mint } from "@caisson/simulated/pki";
import fc from "fast-check";
import { stringify } from "yaml";
import { VerifyError } from "../errors.ts";
import { collateralFromText } from "./collateral-forms.ts";

const times = { issued: new Date("2026-01-01T00:00:00Z"), expires: new Date("2027-01-01T00:00:00Z") };
const { collateral } = mint(hierarchy("collateral forms", times));
const numbers = (hex: string) => [...Buffer.from(hex, "hex")];
const pem = (hex: string) =>
  `-----BEGIN X509 CRL-----\n${Buffer.from(hex, "hex").toString("base64").replace(/.{64}/g, "$&\n")}\n-----END X509 CRL-----\n`;
const { tcb_info_signature, qe_identity_signature, ...unsigned } = collateral;
const pcs = {
  ...unsigned,
  tcb_info: `{"tcbInfo":${collateral.tcb_info},"signature":"${tcb_info_signature}"}`,
  qe_identity: `{ "enclaveIdentity" : ${collateral.qe_identity} , "signature" : "${qe_identity_signature}" }\n`,
};

for (const [name, document] of [
  ["ours", collateral],
  [
    "lists of numbers",
    {
      ...collateral,
      root_ca_crl: numbers(collateral.root_ca_crl),
      pck_crl: numbers(collateral.pck_crl),
      tcb_info_signature: numbers(tcb_info_signature),
      qe_identity_signature: numbers(qe_identity_signature),
    },
  ],
  [
    "CRLs in PEM",
    { ...collateral, root_ca_crl: pem(collateral.root_ca_crl), pck_crl: pem(collateral.pck_crl) },
  ],
  ["PCS's answers whole", pcs],
] as const) {
  for (const [format, write] of [
    ["JSON", JSON.stringify],
    ["YAML", stringify],
  ] as const) {
    test(`${name}, as ${format}`, () => deepEqual(collateralFromText(write(document), "c"), collateral));
  }
}

test("what is signed keeps its spelling", () => {
  const odd = `{ "id" : "TDX",\n "a":1.50 }`;
  const document = { tcb_info: `{"tcbInfo":${odd},"signature":"00ff"}` };
  deepEqual(collateralFromText(JSON.stringify(document), "c"), { tcb_info: odd, tcb_info_signature: "00ff" });
});

test("what is in no known form is left as it is, for its reader to refuse", () => {
  const document = {
    root_ca_crl: [256],
    pck_crl: "-----BEGIN X509 CRL-----\nAA",
    tcb_info: '{"other":1}',
    more: null,
  };
  deepEqual(collateralFromText(JSON.stringify(document), "c"), document);
  equal(collateralFromText("a text", "c"), "a text");
});

test("a text that is not data is refused", () => {
  for (const text of ["{", "a: [", "a: *b"]) {
    throws(() => collateralFromText(text, "c"), { code: "evidence/malformed" });
  }
});

test("any text comes out or is refused", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      try {
        collateralFromText(text, "c");
      } catch (error) {
        if (!(error instanceof VerifyError)) throw error;
      }
    }),
  );
});
