// SPDX-License-Identifier: Apache-2.0
/** What is left to cut small arrays from. */
let slab = new ArrayBuffer(0);
let used = 0;

/**
 * So many zero bytes, in a buffer that they share with others where they are few. V8 takes the memory of an array with a
 * buffer of its own outside of its heap, ten times as long; that of 64 bytes and less as soon as anybody asks for the buffer.
 */
export function allocate(size: number): Uint8Array<ArrayBuffer> {
  if (size > 1024) return new Uint8Array(size);
  if (used + size > slab.byteLength) {
    slab = new ArrayBuffer(8192);
    used = 0;
  }
  const bytes = new Uint8Array(slab, used, size);
  used += size;
  return bytes;
}
