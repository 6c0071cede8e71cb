// SPDX-License-Identifier: Apache-2.0
/**
 * Examples of one's own: a directory of directories, each with the files that the page is given together, and `example.json`,
 * which says what they are. So real evidence is shown beside the minted one without being part of this repository.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { limits } from "@caisson/vocabulary/limits";
import { object, optional, readAt, text } from "@caisson/vocabulary/schema";
import { type Example, exampleFile } from "./examples.ts";

const schema = object({
  name: text("what it is, at most 120 characters", /^/, 120),
  about: text("a sentence of at most 400 characters", /^/, 400),
  /** When it is judged; now when it is left out. */
  at: optional(text("a time in ISO 8601", /^\d{4}-\d\d-\d\dT[\d:.]+Z$/, 32)),
  nonce: optional(text("hexadecimal", /^(?:[0-9a-f]{2})+$/, 256)),
});

const description = "example.json";

/** Reads them, by name. Throws SchemaError, TypeError and the errors of reading files, all of which name the place. */
export function readExamples(directory: string): Example[] {
  const names = readdirSync(directory, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort();
  if (names.length === 0)
    throw new TypeError(`${directory} has no directories, each of which would be an example`);
  return names.map((name) => readExample(join(directory, name)));
}

function readExample(place: string): Example {
  const about = readAt(
    join(place, description),
    schema,
    JSON.parse(readFileSync(join(place, description), "utf8")),
  );
  const files = readdirSync(place).filter((name) => name !== description);
  return {
    name: about.name,
    about: about.about,
    at: about.at ?? "",
    nonce: about.nonce ?? "",
    files: files.sort().map((name) => {
      const path = join(place, name);
      if (statSync(path).size > limits.document)
        throw new TypeError(`${path} is larger than ${limits.document} bytes`);
      return exampleFile(name, readFileSync(path));
    }),
  };
}
