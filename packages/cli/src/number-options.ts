// SPDX-License-Identifier: Apache-2.0
/** Whole numbers on a command line. */
import { InvalidArgumentError } from "commander";

/** A parser of whole numbers in a range, in decimal. */
export const whole =
  (first: number, last: number) =>
  (text: string): number => {
    const value = Number(text);
    if (/^\d{1,15}$/.test(text) && value >= first && value <= last) return value;
    throw new InvalidArgumentError(`a whole number from ${first} to ${last}`);
  };

export const releaseNumber = whole(1, 9_999_999_999);

/** A century at most: dates beyond have five digits of years soon. */
export const days = whole(1, 36_500);
