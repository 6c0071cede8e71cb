// SPDX-License-Identifier: Apache-2.0
/**
 * dstack's guest-agent API against the Rust and Python SDKs that dstack publishes, from their registries, and the Go one
 * from a clone of dstack's repository that CAISSON_DSTACK_SOURCE names (no module proxy that was reached has it). The Rust
 * one brings some 400 crates. The JavaScript one is in the integration tier.
 */
import { deepEqual, equal } from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { judge, serveAgent } from "../support/dstack-agent.ts";
import { loadOracle } from "../support/quote-oracle.ts";

const place = mkdtempSync(join(tmpdir(), "caisson-dstack-"));
const socket = join(place, "dstack.sock");
/** Survives the test: compiling takes minutes. */
const target = new URL("../../.cache/dstack-rust", import.meta.url).pathname;

let servers: Server[] = [];
before(async () => {
  loadOracle();
  servers = await serveAgent(socket);
});
after(() => {
  for (const server of servers) server.close();
  rmSync(place, { recursive: true });
});

const manifest = `[package]
name = "sdk"
version = "0.0.0"
edition = "2021"
[dependencies]
dstack-sdk = "=0.1.3"
tokio = { version = "1", features = ["rt", "macros"] }
serde_json = "1"
hex = "0.4"
`;

/** Everything that the client can ask for, as one line of JSON. */
const rust = `use dstack_sdk::dstack_client::{DstackClient, TlsKeyConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = DstackClient::new(None);
    let key = client.get_key(Some("a/b".into()), Some("signing".into())).await?;
    let other = client.get_key(Some("a/c".into()), None).await?;
    let quote = client.get_quote(b"report".to_vec()).await?;
    let info = client.info().await?;
    let tls = client.get_tls_key(TlsKeyConfig::builder().subject("front").alt_names(vec!["shop.example".into()]).build()).await?;
    let signed = client.sign("ed25519", b"text".to_vec()).await?;
    let good = client.verify("ed25519", b"text".to_vec(), signed.decode_signature()?, hex::decode(&signed.public_key)?).await?;
    let event = client.emit_event("x".into(), b"y".to_vec()).await;
    println!("{}", serde_json::json!([
        key.decode_key()?.len(), key.decode_signature_chain()?[0].len(), key.key == other.key,
        hex::decode(&quote.quote)?[568..574] == *b"report", info.app_id, info.tcb_info.compose_hash.len(),
        tls.certificate_chain.len(), good.valid, event.is_err(), client.version().await?.version.len() > 4, quote.quote,
    ]));
    Ok(())
}
`;

/** All but its quote are what every SDK finds; the quote verifies with our verifier and with dcap-qvl. */
async function checkFound(line: string): Promise<void> {
  const all = JSON.parse(line) as unknown[];
  deepEqual(all.slice(0, -1), [32, 65, false, true, "01".repeat(20), 64, 2, true, true, true]);
  const good = { status: "UpToDate", advisories: [] };
  deepEqual(await judge(Buffer.from(all.at(-1) as string, "hex")), [good, good]);
}

test("the Rust SDK finds keys, quotes, certificates, signatures and who it is", async () => {
  const directory = join(place, "rust");
  mkdirSync(join(directory, "src"), { recursive: true });
  writeFileSync(join(directory, "Cargo.toml"), manifest);
  writeFileSync(join(directory, "src/main.rs"), rust);
  const env = { ...process.env, CARGO_TARGET_DIR: target, DSTACK_SIMULATOR_ENDPOINT: socket };
  const args = ["run", "--quiet"];
  const { stdout } = await promisify(execFile)("cargo", args, { cwd: directory, env });
  await checkFound(stdout);
});

const python = `import json
from dstack_sdk import DstackClient
client = DstackClient()
key, other = client.get_key("a/b", "signing"), client.get_key("a/c")
quote, info = client.get_quote(b"report"), client.info()
tls = client.get_tls_key(subject="front", alt_names=["shop.example"])
signed = client.sign("ed25519", b"text")
good = client.verify("ed25519", b"text", signed.decode_signature(), bytes.fromhex(signed.public_key))
try:
    client.emit_event("x", "y")
    event = False
except Exception:
    event = True
print(json.dumps([len(key.decode_key()), len(key.decode_signature_chain()[0]), key.key == other.key,
    bytes.fromhex(quote.quote)[568:574] == b"report", info.app_id, len(info.tcb_info.compose_hash),
    len(tls.certificate_chain), good.valid, event, len(client.version().version) > 4, quote.quote]))
`;

test("the Python SDK finds the same", async () => {
  const environment = join(place, "python");
  execFileSync("python3", ["-m", "venv", environment]);
  execFileSync(join(environment, "bin/pip"), ["install", "--quiet", "dstack-sdk==0.5.4"], { stdio: "pipe" });
  const env = { ...process.env, DSTACK_SIMULATOR_ENDPOINT: socket };
  const { stdout, stderr } = await promisify(execFile)(join(environment, "bin/python3"), ["-c", python], {
    env,
  });
  equal(stderr, "");
  await checkFound(stdout);
});

const go = `package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/Dstack-TEE/dstack/sdk/go/dstack"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	ctx, client := context.Background(), dstack.NewDstackClient()
	key := must(client.GetKey(ctx, "a/b", "signing", "secp256k1"))
	other := must(client.GetKey(ctx, "a/c", "", "secp256k1"))
	quote := must(client.GetQuote(ctx, []byte("report")))
	info := must(client.Info(ctx))
	tcb := must(info.DecodeTcbInfo())
	tls := must(client.GetTlsKey(ctx, dstack.WithSubject("front"), dstack.WithAltNames([]string{"shop.example"})))
	signed := must(client.Sign(ctx, "ed25519", []byte("text")))
	good := must(client.Verify(ctx, "ed25519", []byte("text"), signed.Signature, signed.PublicKey))
	_, attested := client.Attest(ctx, []byte("report"))
	fmt.Println(string(must(json.Marshal([]any{
		len(must(key.DecodeKey())), len(must(key.DecodeSignatureChain())[0]), key.Key == other.Key,
		string(must(quote.DecodeQuote())[568:574]) == "report", info.AppID, len(tcb.ComposeHash),
		len(tls.CertificateChain), good.Valid, attested != nil, len(must(client.GetVersion(ctx)).Version) > 4, quote.Quote,
	}))))
}
`;

test("the Go SDK finds the same", async (t) => {
  const repository = process.env["CAISSON_DSTACK_SOURCE"];
  if (repository === undefined) return t.skip("CAISSON_DSTACK_SOURCE names no clone of dstack's repository");
  const directory = join(place, "go");
  mkdirSync(directory);
  const archive = join(place, "sdk.tar");
  execFileSync("git", ["-C", repository, "archive", "-o", archive, "HEAD:sdk/go"]);
  mkdirSync(join(place, "sdk"));
  execFileSync("tar", ["-xf", archive, "-C", join(place, "sdk")]);
  const sdk = "github.com/Dstack-TEE/dstack/sdk/go";
  writeFileSync(
    join(directory, "go.mod"),
    `module use\n\ngo 1.25.0\n\nrequire ${sdk} v0.0.0\n\nreplace ${sdk} => ../sdk\n`,
  );
  writeFileSync(join(directory, "main.go"), go);
  const env = { ...process.env, DSTACK_SIMULATOR_ENDPOINT: socket };
  const { stdout } = await promisify(execFile)("go", ["run", "-mod=mod", "."], { cwd: directory, env });
  await checkFound(stdout);
});
