// SPDX-License-Identifier: Apache-2.0
/** What `caisson kms` and those who use a KMS name on the command line: its address, keys, applications. */
import { InvalidArgumentError } from "commander";

/** A KMS's address. */
export function kmsUrl(text: string): string {
  if (URL.canParse(text) && /^https?:\/\//.test(text) && text.length <= 512) return text;
  throw new InvalidArgumentError("expected http://HOST:PORT or https://HOST:PORT");
}

/** A parser of so many bytes in hexadecimal; gives them in lower case. */
const hexOf =
  (...sizes: readonly number[]) =>
  (text: string): string => {
    const hex = text.toLowerCase();
    if (/^[0-9a-f]*$/.test(hex) && sizes.some((size) => hex.length === 2 * size)) return hex;
    throw new InvalidArgumentError(`expected ${sizes.map((size) => 2 * size).join(" or ")} hex digits`);
  };

/** An identity, as `caisson kms identity` prints it, or another key. */
export const keyOf = hexOf(32);
/** An application: the beginning of its compose hash, or its identity. */
export const appOf = hexOf(20, 32);

/** For an option that may be given several times. */
export const each =
  (parse: (text: string) => string = (text) => text) =>
  (text: string, before: readonly string[]): string[] => [...before, parse(text)];
