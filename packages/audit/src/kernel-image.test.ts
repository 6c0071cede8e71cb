// SPDX-License-Identifier: Apache-2.0
import { equal, ok, throws } from "node:assert/strict";
import { test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { AuditError } from "./errors.ts";
import { diffConfigs, parseKernelConfig } from "./kernel-config.ts";
import { readKernelImage } from "./kernel-image.ts";

/** A bzImage with nothing in it but what is read: setup header, version string, payload with its configuration. */
function sampleKernel(config: string): Buffer {
  const kernel = Buffer.concat([
    Buffer.from("code IKCFG_ST"),
    gzipSync(config),
    Buffer.from("IKCFG_ED more code"),
  ]);
  const payload = zstdCompressSync(kernel);
  const setup = Buffer.alloc(1024);
  setup[0x1f1] = 1;
  setup.write("HdrS", 0x202, "latin1");
  setup.writeUInt16LE(0x300 - 0x200, 0x20e);
  setup.write("7.3.4 (caisson@caisson) #1\0", 0x300, "latin1");
  setup.writeUInt32LE(0, 0x248);
  setup.writeUInt32LE(payload.length + 4, 0x24c);
  const size = Buffer.alloc(4);
  size.writeUInt32LE(kernel.length);
  return Buffer.concat([setup, payload, size]);
}

const sample = sampleKernel('# comment\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_LSM="lockdown,yama"\n');

test("release and configuration come out of the image", () => {
  const { release, config } = readKernelImage(sample);
  equal(release, "7.3.4");
  equal(config.get("LSM"), '"lockdown,yama"');
  equal(config.has("B"), false);
});

test("what is not a kernel is refused", () => {
  throws(() => readKernelImage(Buffer.from("kernel")), { code: "image/kernel" });
  throws(() => readKernelImage(Buffer.concat([sample.subarray(0, 1024), Buffer.alloc(4096)])), {
    code: "image/kernel",
  });
  throws(() => parseKernelConfig("CONFIG_A=y\nrm -rf\n"), { code: "kernel/config" });
  throws(() => parseKernelConfig(""), { code: "kernel/config" });
});

test("truncations and bit flips give an error of ours or an answer", () => {
  const attempt = (bytes: Buffer) => {
    try {
      ok(readKernelImage(bytes).config.size > 0);
    } catch (error) {
      ok(error instanceof AuditError, String(error));
    }
  };
  for (let length = 0; length < sample.length; length += 7) attempt(sample.subarray(0, length));
  fc.assert(
    fc.property(fc.nat(sample.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
      const copy = Buffer.from(sample);
      copy[at]! ^= flip;
      attempt(copy);
    }),
  );
});

test("a difference names both values", () => {
  const rows = diffConfigs(
    parseKernelConfig("CONFIG_A=y\nCONFIG_C=1\n"),
    parseKernelConfig("CONFIG_A=m\nCONFIG_C=1\nCONFIG_D=y\n"),
  );
  equal(JSON.stringify(rows), '[{"symbol":"A","a":"y","b":"m"},{"symbol":"D","a":"n","b":"y"}]');
});
