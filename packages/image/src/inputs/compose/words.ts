// SPDX-License-Identifier: Apache-2.0
/**
 * A command line as words, the way Compose splits `command`, `entrypoint` and nothing else: quotes and backslashes as
 * in a shell, without a shell (no variables, no globs, no operators).
 */

/** Undefined when a quote is not closed or a backslash ends the text. */
export function splitWords(text: string): string[] | undefined {
  const words: string[] = [];
  let word: string | undefined;
  for (let i = 0; i < text.length; i++) {
    const character = text[i]!;
    if (/\s/.test(character)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (character === "'") {
      const end = text.indexOf("'", i + 1);
      if (end === -1) return undefined;
      word = (word ?? "") + text.slice(i + 1, end);
      i = end;
    } else if (character === '"') {
      word ??= "";
      for (i++; text[i] !== '"'; i++) {
        if (i >= text.length) return undefined;
        if (text[i] === "\\" && /["\\$`]/.test(text[i + 1] ?? "")) i++;
        word += text[i]!;
      }
    } else if (character === "\\") {
      if (++i >= text.length) return undefined;
      word = (word ?? "") + text[i]!;
    } else word = (word ?? "") + character;
  }
  if (word !== undefined) words.push(word);
  return words;
}
