// SPDX-License-Identifier: Apache-2.0
/** Long lines on a narrow terminal: broken at spaces, and continued below where their last column begins. */
import { stripVTControlCharacters } from "node:util";

const width = (text: string): number => stripVTControlCharacters(text).length;

/** Lines of at most `columns`, broken at spaces where there are any; colours take no room. */
export function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(/(?<= )(?! )/)) {
    if (line !== "" && width(line + word.trimEnd()) > columns) {
      lines.push(line.trimEnd());
      line = "";
    }
    line += word;
    while (width(line.trimEnd()) > columns && line === stripVTControlCharacters(line)) {
      lines.push(line.slice(0, columns));
      line = line.slice(columns);
    }
  }
  return [...lines, line.trimEnd()];
}

/** Columns further right would leave too little room. */
const rightmost = 40;

/** Where the last column of a line begins: behind its last gap of two spaces and more that is not too far right. */
function lastColumn(line: string): number {
  const plain = stripVTControlCharacters(line);
  let at = /^ */.exec(plain)![0].length;
  for (const gap of plain.matchAll(/\S( {2,})(?=\S)/g)) {
    const end = gap.index + gap[0].length;
    if (end <= rightmost) at = end;
  }
  return at;
}

/** A whole text for a terminal of that many columns; as it is where there is none. */
export function fold(text: string, columns: number | undefined): string {
  if (columns === undefined) return text;
  return text
    .split("\n")
    .flatMap((line) => {
      if (width(line) <= columns) return [line];
      const indent = lastColumn(line);
      const [first = "", ...more] = wrap(line, columns);
      const rest = more.length === 0 ? [] : wrap(more.join(" "), Math.max(20, columns - indent));
      return [first, ...rest.map((part) => `${" ".repeat(indent)}${part}`)];
    })
    .join("\n");
}
