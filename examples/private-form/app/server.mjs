// SPDX-License-Identifier: Apache-2.0
// The application knows nothing of TLS, evidence or sealed requests: it serves plain HTTP, and the front does the rest.
import { createServer } from "node:http";

const bodyLimit = 64 * 1024;
let received = 0;

const server = createServer(async (request, response) => {
  const answer = (status, value) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(`${JSON.stringify(value)}\n`);
  };
  const channel = request.headers["caisson-channel"] ?? "none";
  if (request.method === "GET" && request.url === "/") return answer(200, { received, channel });
  if (request.method !== "POST" || request.url !== "/form") return answer(404, { error: "there is no such thing" });
  let text = "";
  for await (const piece of request) {
    text += piece;
    if (text.length > bodyLimit) return answer(413, { error: "the form is too long" });
  }
  try {
    const { message } = JSON.parse(text);
    if (typeof message !== "string" || message === "") throw new Error("there is no message");
    received++;
    answer(200, { thanks: `The guest read ${message.length} characters.`, first: message.slice(0, 24), channel });
  } catch (error) {
    answer(400, { error: String(error.message) });
  }
});
server.listen(8080, () => console.log("the application listens on port 8080"));
process.once("SIGTERM", () => process.exit(0));
