// The example: a small page that says what the application sees from inside its sandbox.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { networkInterfaces } from "node:os";

const port = Number(process.env.PORT ?? 8080);

const attempt = (action) => {
  try {
    return action();
  } catch (error) {
    return error.code ?? error.message;
  }
};

const status = (name) =>
  attempt(() => new RegExp(`^${name}:\\s*(.*)$`, "m").exec(readFileSync("/proc/self/status", "utf8"))?.[1]);

function report() {
  return {
    name: "hello",
    node: process.version,
    pid: process.pid,
    uptime: Number(process.uptime().toFixed(3)),
    user: process.getuid(),
    sandbox: {
      capabilities: status("CapEff"),
      noNewPrivileges: status("NoNewPrivs"),
      seccomp: status("Seccomp"),
      rootIsWritable: attempt(() => writeFileSync("/written", "")) === undefined,
      root: attempt(() => readdirSync("/")),
      devices: attempt(() => readdirSync("/dev")),
      processes: attempt(() => readdirSync("/proc").filter((name) => /^\d+$/.test(name)).length),
      interfaces: Object.keys(attempt(networkInterfaces)),
    },
  };
}

const page = (facts) => `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>hello</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem}pre{overflow:auto}</style>
<h1>Hello from a confidential VM</h1>
<p>This is what the application sees from inside its sandbox.</p>
<pre>${JSON.stringify(facts, null, 2).replaceAll("&", "&amp;").replaceAll("<", "&lt;")}</pre>
</html>
`;

const server = createServer((request, response) => {
  const { pathname } = new URL(request.url, "http://localhost");
  if (pathname !== "/" || (request.method !== "GET" && request.method !== "HEAD")) {
    response.writeHead(404, { "content-type": "text/plain" }).end("not found\n");
    return;
  }
  const html = (request.headers.accept ?? "").includes("text/html");
  const body = html ? page(report()) : `${JSON.stringify(report(), null, 2)}\n`;
  const type = html ? "text/html; charset=utf-8" : "application/json";
  response.writeHead(200, { "content-type": type, "content-length": Buffer.byteLength(body) });
  response.end(request.method === "HEAD" ? undefined : body);
});

server.listen(port, () => console.log(`hello listens on port ${port}`));
process.on("SIGTERM", () => server.close(() => process.exit(0)));
