// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { writeTar } from "../oci/tar-writer.ts";
import { makeDeb, sha256 } from "../testing/archive.ts";
import { debianLicences, licencesOf } from "./licences.ts";

const format = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n";

test("a machine-readable copyright file names its licences, each once", () => {
  const text = `${format}\nFiles: *\nCopyright: somebody\nLicense: GPL-2+\n\nFiles: a\nLicense: ISC\n text\n\nLicense: GPL-2+\n text\n`;
  deepEqual(licencesOf(text), ["GPL-2+", "ISC"]);
});

test("another one names the common licences that it refers to", () => {
  const text =
    "It is under `/usr/share/common-licenses/GPL-3'. See /usr/share/common-licenses/LGPL-2.1.\nLicense: none of these\n";
  deepEqual(licencesOf(text), ["GPL-3", "LGPL-2.1"]);
});

test("a file that says nothing names nothing, and one that says too much is cut", () => {
  deepEqual(licencesOf(""), []);
  const many = Array.from({ length: 999 }, (_, i) => `License: ${"x".repeat(500)}${i}`).join("\n");
  deepEqual(
    licencesOf(format + many).map((name) => name.length),
    [120],
  );
});

test("an archive is read once; what was kept of it and is not whole is read again", async (t) => {
  const place = await mkdtemp(join(tmpdir(), "caisson-licences-"));
  t.after(() => rm(place, { recursive: true, force: true }));
  const content = Buffer.from(`${format}\nFiles: *\nLicense: ISC\n`);
  const tar = Buffer.concat([...writeTar([{ path: "usr/share/doc/tool/copyright", mode: 0o644, content }])]);
  const archive = join(place, "tool.deb");
  await writeFile(archive, makeDeb(tar, { data: "data.tar" }));
  const tool = {
    name: "tool",
    version: "1",
    sha256: sha256(tar),
  } as unknown as Parameters<typeof debianLicences>[0][number];
  let asked = 0;
  const licences = () =>
    debianLicences(
      [tool],
      () => {
        asked++;
        return archive;
      },
      place,
    );
  const found = new Map([["tool 1", ["ISC"]]]);
  deepEqual(await licences(), found);
  await rm(archive);
  deepEqual(await licences(), found, "without the archive");

  const [kept] = await readdir(join(place, "licences"));
  for (const text of ["", "{", '{"licences":[1]}', '{"licences":["MIT"],"sameAs":"other"}']) {
    await writeFile(archive, makeDeb(tar, { data: "data.tar" }));
    await writeFile(join(place, "licences", kept!), text);
    deepEqual(await licences(), found, text);
  }
  equal(asked, 6);
});
