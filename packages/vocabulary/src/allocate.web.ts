// SPDX-License-Identifier: Apache-2.0
/** So many zero bytes; a browser makes few of them. */
export const allocate = (size: number): Uint8Array<ArrayBuffer> => new Uint8Array(size);
