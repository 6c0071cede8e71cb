// SPDX-License-Identifier: Apache-2.0
/** Which errors of PostgreSQL's may pass; all else is in test/integration/kms-postgresql.test.ts, with a server. */
import { rejects } from "node:assert/strict";
import test from "node:test";
import pg from "pg";
import { postgresql } from "./postgresql.ts";

/** What the server says under this code (SQLSTATE). */
const said = (code: string) => Object.assign(new pg.DatabaseError("no", 2, "error"), { code });
/** What the connection fails with (errno). */
const failed = (code: string) => Object.assign(new Error(`write ${code}`), { code });

for (const { error, code } of [
  { error: failed("ECONNRESET"), code: "log/unavailable" },
  { error: failed("EPIPE"), code: "log/unavailable" },
  { error: said("57P01"), code: "log/unavailable" },
  { error: said("53100"), code: "log/unavailable" },
  { error: said("42501"), code: "log/unreadable" },
  { error: said("XX001"), code: "log/unreadable" },
]) {
  test(`${error.code} is ${code}`, async (t) => {
    t.mock.method(pg.Client.prototype, "connect", () => Promise.resolve());
    t.mock.method(pg.Client.prototype, "query", () => Promise.reject(error));
    t.mock.method(pg.Client.prototype, "end", () => Promise.resolve());
    await rejects(postgresql(["postgresql://kms@127.0.0.1:1/kms"]), { code });
  });
}
