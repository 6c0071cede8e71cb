// SPDX-License-Identifier: Apache-2.0
/** Certificates of the test authority, read by Node's own X.509. */
import { deepEqual, equal } from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { test } from "node:test";
import { createTestAuthority, issueServerCertificate } from "./test-authority.ts";

const validity = { notBefore: Date.UTC(2026, 0, 1), notAfter: Date.UTC(2060, 0, 1) };

test("a server's certificate is one of this authority, for its names, for TLS servers, and not an authority's", () => {
  const authority = createTestAuthority("Test CA", validity);
  const ca = new X509Certificate(authority.certificate);
  const server = new X509Certificate(
    issueServerCertificate(authority, ["a.test"], ["127.0.0.1"], validity).certificate,
  );
  equal(server.checkIssued(ca) && server.verify(ca.publicKey), true);
  deepEqual(server.keyUsage, ["1.3.6.1.5.5.7.3.1"]);
  equal(server.checkHost("a.test"), "a.test");
  equal(server.checkIP("127.0.0.1"), "127.0.0.1");
  equal(server.checkHost("b.test"), undefined);
  deepEqual([ca.ca, server.ca], [true, false]);
  // Both forms of dates: UTCTime before 2050, GeneralizedTime from then on.
  deepEqual(
    [server.validFromDate.getTime(), server.validToDate.getTime()],
    [validity.notBefore, validity.notAfter],
  );
});
