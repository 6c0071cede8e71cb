// SPDX-License-Identifier: Apache-2.0
/** An argument as a POSIX shell reads it. */
export const shellWord = (argument: string): string =>
  /^[\w./=,:-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`;
