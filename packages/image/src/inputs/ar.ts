// SPDX-License-Identifier: Apache-2.0
/** Reads ar archives in the form that deb(5) uses: short names, no symbol table. */
import { ImageError } from "../errors.ts";

export interface ArMember {
  name: string;
  content: Blob;
}

const magic = "!<arch>\n";
const headerForm = /^([^\0 /]{1,16})\/? *(\d{1,12}) *(\d{1,6}) *(\d{1,6}) *([0-7]{1,8}) *(\d{1,10}) *`\n$/;
const maximumMembers = 16;

async function text(bytes: Blob): Promise<string> {
  return Buffer.from(await bytes.arrayBuffer()).toString("latin1");
}

/** The members of an archive, in order; nothing is read but their headers. Throws ImageError `archive/…`. */
export async function readAr(archive: Blob, name: string): Promise<ArMember[]> {
  if ((await text(archive.slice(0, magic.length))) !== magic) {
    throw new ImageError("archive/format", `${name} is not an ar archive`);
  }
  const members: ArMember[] = [];
  for (let at = magic.length; at < archive.size; ) {
    const header = await text(archive.slice(at, at + 60));
    const match = headerForm.exec(header);
    if (match === null || members.length === maximumMembers) {
      const code = header.length < 60 ? "archive/truncated" : "archive/format";
      throw new ImageError(code, `${name}: the header of member ${members.length + 1} is malformed`);
    }
    const start = at + 60;
    const end = start + Number(match[6]);
    if (end > archive.size)
      throw new ImageError("archive/truncated", `${name} ends in the middle of '${match[1]}'`);
    members.push({ name: match[1]!, content: archive.slice(start, end) });
    at = end + (end % 2); // members start at even places
  }
  return members;
}
