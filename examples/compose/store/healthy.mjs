// SPDX-License-Identifier: Apache-2.0
// Exit status 0 when the store answers.
import { connect } from "node:net";

const socket = connect(6379, "127.0.0.1", () => socket.write("*1\r\n$4\r\nPING\r\n"));
socket.once("data", (bytes) => process.exit(bytes.toString().startsWith("+PONG") ? 0 : 1));
socket.once("error", () => process.exit(1));
