// SPDX-License-Identifier: Apache-2.0
/**
 * Native verifiers beside which ours is measured: dcap-qvl (Rust, with two cryptographic libraries) and go-tdx-guest. Each
 * is a small program around its library, built from the language's registry where cargo or go is there, and kept.
 *
 * A peer verifies one quote with its collateral again and again, and prints its processor time for each, in ms. Both parse
 * the collateral once (their API takes it parsed, dcap-qvl's, or fetches it each time, go-tdx-guest's, from memory here).
 */
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { cacheDirectory } from "@caisson/image";
import type { Collateral } from "@caisson/verify";

const rust: Readonly<Record<string, string>> = {
  "Cargo.toml": `[package]
name = "peer"
version = "0.0.0"
edition = "2021"

[dependencies]
dcap-qvl = { version = "=0.7.1", default-features = false, features = ["std", "ring", "rustcrypto", "default-x509"] }
serde_json = "1"
`,
  "src/main.rs": `use dcap_qvl::{verify, QuoteCollateralV3};

/// Nanoseconds of processor time of the one thread.
fn spent() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let quote = std::fs::read(&args[1]).unwrap();
    let collateral: QuoteCollateralV3 = serde_json::from_slice(&std::fs::read(&args[2]).unwrap()).unwrap();
    let now: u64 = args[3].parse().unwrap();
    let rounds: u64 = args[4].parse().unwrap();
    for (name, check) in [("ring", verify::ring::verify as fn(&[u8], &QuoteCollateralV3, u64) -> _), ("rustcrypto", verify::rustcrypto::verify)] {
        for _ in 0..rounds / 4 {
            check(&quote, &collateral, now).unwrap();
        }
        let start = spent();
        for _ in 0..rounds {
            check(&quote, &collateral, now).unwrap();
        }
        println!("{} {}", name, (spent() - start) as f64 / 1e6 / rounds as f64);
    }
}
`,
};

const go: Readonly<Record<string, string>> = {
  "go.mod": `module peer

go 1.24

require github.com/google/go-tdx-guest v0.3.1
`,
  "main.go": `package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-tdx-guest/verify"
)

type memory map[string]string

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (m memory) der(name string) []byte {
	bytes, err := hex.DecodeString(m[name])
	must(err)
	return bytes
}

func (m memory) Get(address string) (map[string][]string, []byte, error) {
	chain := func(header, field string) map[string][]string {
		return map[string][]string{header: {url.QueryEscape(m[field])}}
	}
	signed := func(member, field string) []byte {
		return []byte("{\\"" + member + "\\":" + m[field] + ",\\"signature\\":\\"" + m[field+"_signature"] + "\\"}")
	}
	switch {
	case strings.Contains(address, "/tcb?"):
		return chain("Tcb-Info-Issuer-Chain", "tcb_info_issuer_chain"), signed("tcbInfo", "tcb_info"), nil
	case strings.Contains(address, "/qe/identity"):
		return chain("Sgx-Enclave-Identity-Issuer-Chain", "qe_identity_issuer_chain"), signed("enclaveIdentity", "qe_identity"), nil
	case strings.Contains(address, "/pckcrl?"):
		return chain("Sgx-Pck-Crl-Issuer-Chain", "pck_crl_issuer_chain"), m.der("pck_crl"), nil
	}
	return nil, m.der("root_ca_crl"), nil
}

func spent() float64 {
	var usage syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e6
}

func main() {
	quote, err := os.ReadFile(os.Args[1])
	must(err)
	text, err := os.ReadFile(os.Args[2])
	must(err)
	collateral := memory{}
	must(json.Unmarshal(text, &collateral))
	now, err := strconv.ParseInt(os.Args[3], 10, 64)
	must(err)
	rounds, err := strconv.Atoi(os.Args[4])
	must(err)
	check := func(times int) {
		for i := 0; i < times; i++ {
			must(verify.RawTdxQuote(quote, &verify.Options{CheckRevocations: true, GetCollateral: true, Getter: collateral, Now: time.Unix(now, 0)}))
		}
	}
	check(rounds / 4)
	start := spent()
	check(rounds)
	fmt.Println("go-tdx-guest", (spent()-start)/float64(rounds))
}
`,
};

/** One SEV-SNP report with its certificates: VCEK, then ASK and ARK in DER. It asks no list of revocations, since none is given. */
const goSnp: Readonly<Record<string, string>> = {
  "go.mod": `module peer

go 1.24

require github.com/google/go-sev-guest v0.15.0
`,
  "main.go": `package main

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func read(i int) []byte {
	bytes, err := os.ReadFile(os.Args[i])
	must(err)
	return bytes
}

func spent() float64 {
	var usage syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e6
}

func main() {
	raw, vcek, ask, ark := read(1), read(2), read(3), read(4)
	now, err := strconv.ParseInt(os.Args[5], 10, 64)
	must(err)
	rounds, err := strconv.Atoi(os.Args[6])
	must(err)
	product, err := kds.ParseProductLine("Milan")
	must(err)
	check := func(times int) {
		for i := 0; i < times; i++ {
			report, err := abi.ReportToProto(raw)
			must(err)
			options := verify.DefaultOptions()
			options.DisableCertFetching = true
			options.Now = time.Unix(now, 0)
			options.Product = product
			must(verify.SnpAttestation(&spb.Attestation{
				Report: report,
				Product: product,
				CertificateChain: &spb.CertificateChain{VcekCert: vcek, AskCert: ask, ArkCert: ark},
			}, options))
		}
	}
	check(rounds / 4)
	start := spent()
	check(rounds)
	fmt.Println("go-sev-guest", (spent()-start)/float64(rounds))
}
`,
};

interface Peer {
  name: string;
  tool: "cargo" | "go";
  files: Readonly<Record<string, string>>;
  /** Commands that make the program `peer` out of the files. */
  build: readonly (readonly string[])[];
  program: string;
}

const goProgram = {
  build: [
    ["mod", "tidy"],
    ["build", "-o", "peer", "."],
  ],
  program: "peer",
} as const;

const peers: readonly Peer[] = [
  {
    name: "dcap-qvl",
    tool: "cargo",
    files: rust,
    build: [["build", "--release", "--quiet"]],
    program: "target/release/peer",
  },
  {
    name: "go-tdx-guest",
    tool: "go",
    files: go,
    ...goProgram,
  },
];
const snpPeer: Peer = { name: "go-sev-guest", tool: "go", files: goSnp, ...goProgram };

/** The program, built anew where its text changed. Throws what the build said. */
function program({ tool, files, build, program: path }: Peer): string {
  const digest = createHash("sha256")
    .update(JSON.stringify([files, build]))
    .digest("hex");
  const directory = join(cacheDirectory(process.env), "bench-peers", digest);
  if (!existsSync(join(directory, path))) {
    const fresh = `${directory}.new`;
    rmSync(fresh, { recursive: true, force: true });
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(fresh, name)), { recursive: true });
      writeFileSync(join(fresh, name), text);
    }
    for (const args of build) execFileSync(tool, args, { cwd: fresh, stdio: "pipe", timeout: 900_000 });
    rmSync(directory, { recursive: true, force: true });
    renameSync(fresh, directory);
  }
  return join(directory, path);
}

function isThere(tool: string): boolean {
  try {
    execFileSync(tool, [tool === "go" ? "version" : "--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** Processor time in ms of each peer, by name; and what is missing for the others, in words. */
export interface Measured {
  ms: ReadonlyMap<string, number>;
  missing: readonly string[];
}

function measured(peer: Peer, args: readonly string[]): Measured {
  if (!isThere(peer.tool)) return { ms: new Map(), missing: [`no ${peer.tool}`] };
  return timed(peer.name, program(peer), args);
}

/** What a program says of itself: lines of a name and ms. */
function timed(name: string, program: string, args: readonly string[]): Measured {
  const run = spawnSync(program, args, { encoding: "utf8", timeout: 300_000 });
  const ms = new Map(
    [...run.stdout.matchAll(/^(\S+) ([\d.]+)$/gm)].map(([, name, time]) => [name!, Number(time)]),
  );
  const refused = `${name} refuses this evidence: ${run.stderr.trim().slice(0, 160)}`;
  return { ms, missing: run.status === 0 ? [] : [refused] };
}

/** One SEV-SNP report; certificates in DER, the root last. */
export function nativeSnpPeer(
  scratch: string,
  report: Uint8Array,
  certificates: readonly Uint8Array[],
  seconds: number,
  rounds: number,
): Measured {
  const paths = [report, ...certificates].map((bytes, i) => {
    const path = join(scratch, `${i}`);
    writeFileSync(path, bytes);
    return path;
  });
  return measured(snpPeer, [...paths, `${seconds}`, `${rounds}`]);
}

/** Each time is the median of as many: other work on the machine comes and goes. */
const TURNS = 5;

/** One quote with its collateral: ours and each peer in processes of their own that take turns. */
export function nativePeers(
  scratch: string,
  quote: Uint8Array,
  collateral: Collateral,
  seconds: number,
  rounds: number,
): Measured {
  const [quotePath, collateralPath] = [join(scratch, "quote"), join(scratch, "collateral.json")];
  writeFileSync(quotePath, quote);
  writeFileSync(collateralPath, JSON.stringify(collateral));
  const args = [quotePath, collateralPath, `${seconds}`, `${rounds}`];
  const ours = fileURLToPath(new URL("ours.ts", import.meta.url));
  const turns = Array.from({ length: TURNS }, () => [
    timed("ours", process.execPath, [ours, ...args]),
    ...peers.map((peer) => measured(peer, args)),
  ]).flat();
  const times = new Map<string, number[]>();
  for (const [name, ms] of turns.flatMap(({ ms }) => [...ms])) {
    times.set(
      name,
      [...(times.get(name) ?? []), ms].sort((a, b) => a - b),
    );
  }
  return {
    ms: new Map([...times].map(([name, each]) => [name, each[each.length >> 1]!])),
    missing: [...new Set(turns.flatMap(({ missing }) => missing))],
  };
}
