// SPDX-License-Identifier: Apache-2.0
/**
 * Passwords for PostgreSQL from a file, as libpq reads it: lines `host:port:database:user:password`, `*` for anything, a
 * backslash before `:` and `\`; the first line that fits counts (https://www.postgresql.org/docs/15/libpq-pgpass.html).
 *
 * The client library has a reader, which passes over a file that others can open, and writes to stderr, where a KMS has lines
 * of JSON.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { messageOf } from "@caisson/vocabulary/failure";
import { KmsError } from "../errors.ts";

/** What a line is found by. */
export interface Login {
  host: string;
  port: number;
  database: string;
  user: string;
}

const maximumBytes = 64 * 1024;

/**
 * The password that the file of `PGPASSFILE`, or `~/.pgpass`, has for a server that asks for one. Throws KmsError
 * "log/unavailable" where it has none, or is not its owner's alone.
 */
export function passwordFor(login: Login, environment: NodeJS.ProcessEnv = process.env): string {
  const path = environment.PGPASSFILE || join(environment.HOME || homedir(), ".pgpass");
  const { host, port, database, user } = login;
  const wanted = [host, String(port), database, user];
  const refuse = (reason: string) =>
    new KmsError("log/unavailable", `${host}/${database} asks for a password, and ${path} ${reason}`, {
      fix: `PGPASSFILE names a file of this user, mode 600, with a line ${wanted.join(":")}:PASSWORD`,
    });
  for (const line of readOwn(path, refuse).split(/\r?\n/)) {
    if (line.startsWith("#")) continue;
    const [password, ...fields] = fieldsOf(line).reverse();
    if (fields.length < wanted.length || password === "") continue;
    if (fields.reverse().every((field, i) => field === "*" || field === wanted[i])) return password!;
  }
  throw refuse("has no line for it");
}

function readOwn(path: string, refuse: (reason: string) => KmsError): string {
  let file: number;
  try {
    // A pipe would be waited for.
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw refuse(`cannot be read (${messageOf(error)})`);
  }
  try {
    const { mode, size } = fstatSync(file);
    if ((mode & constants.S_IFMT) !== constants.S_IFREG || size > maximumBytes) {
      throw refuse(`is not a file of at most ${maximumBytes} bytes`);
    }
    if ((mode & 0o077) !== 0) throw refuse(`can be opened by others (mode ${(mode & 0o777).toString(8)})`);
    return readFileSync(file, "utf8");
  } finally {
    closeSync(file);
  }
}

/** Without their backslashes. What follows the fourth colon is one field, the password. */
function fieldsOf(line: string): string[] {
  const fields = [""];
  for (let i = 0; i < line.length; i++) {
    if (line[i] === ":" && fields.length < 5) {
      fields.push("");
      continue;
    }
    if (line[i] === "\\" && i + 1 < line.length) i += 1;
    fields.push(fields.pop()! + line[i]);
  }
  return fields;
}
