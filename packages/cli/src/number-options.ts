// SPDX-License-Identifier: Apache-2.0
/** Numbers of releases and days on a command line. */
import { InvalidArgumentError } from "commander";

export function parseNumber(text: string): number {
  if (!/^[1-9]\d{0,9}$/.test(text)) throw new InvalidArgumentError("expected a whole number above 0");
  return Number(text);
}

/** A century at most: dates beyond have five digits of years soon. */
export function parseDays(text: string): number {
  const days = parseNumber(text);
  if (days > 36_500) throw new InvalidArgumentError("expected at most 36500 days");
  return days;
}
