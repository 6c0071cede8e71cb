// SPDX-License-Identifier: Apache-2.0
/**
 * Errors of the system that no command has words for. They are not bugs: a full disk, a file that cannot be written, a
 * server that cannot be reached. Each gets a code, the place as far as it is known, and what to do.
 */
import { Failure, type FailureKind, messageOf } from "./failure.ts";

type SystemErrorCode =
  | "system/disk"
  | "system/file"
  | "system/network"
  | "system/time-limit"
  | "system/resources";

class SystemError extends Failure<SystemErrorCode> {
  override readonly name = "SystemError";
}

interface Meaning {
  code: SystemErrorCode;
  kind: FailureKind;
  says: string;
  fix: string;
}

const room =
  "make room there, or name another place: TMPDIR for temporary files, CAISSON_CACHE for the cache";
const disk = (says: string): Meaning => ({ code: "system/disk", kind: "unavailable", says, fix: room });
const file = (says: string): Meaning => ({ code: "system/file", kind: "usage", says, fix: "check the path" });
const device = (says: string): Meaning => ({
  code: "system/disk",
  kind: "unavailable",
  says,
  fix: "look at the system's log (dmesg) for errors of this disk",
});
const network = (says: string): Meaning => ({
  code: "system/network",
  kind: "unavailable",
  says,
  fix: "check the address, and that something listens there",
});
const certificate = (says: string): Meaning => ({
  code: "system/network",
  kind: "unavailable",
  says,
  fix: "check the address, or name the authority that vouches for it in NODE_EXTRA_CA_CERTS",
});
const resources = (says: string): Meaning => ({
  code: "system/resources",
  kind: "unavailable",
  says,
  fix: "end other programs, or raise the limit (ulimit)",
});

/** By errno(3), or what Node calls errors of TLS, of HTTP and of its client (tls, llhttp, undici). */
const meanings: Record<string, Meaning> = {
  ENOSPC: disk("no space left on the disk"),
  EDQUOT: disk("the disk quota is used up"),
  EIO: device("the disk or device cannot be read or written"),
  ENXIO: device("there is no such device"),
  ESTALE: device("the file went away from its server"),
  EFBIG: file("the file is larger than this file system or limit allows"),
  EEXIST: file("it exists already"),
  ENOTEMPTY: file("the directory is not empty"),
  EBUSY: file("something uses it"),
  ETXTBSY: file("the program runs now"),
  EROFS: file("the file system is read-only"),
  EACCES: file("permission denied"),
  EPERM: file("not permitted"),
  ENOENT: file("no such file or directory"),
  ENOTDIR: file("not a directory"),
  EISDIR: file("it is a directory"),
  ENAMETOOLONG: file("the name is too long"),
  ELOOP: file("too many symbolic links"),
  ECONNREFUSED: network("connection refused"),
  ECONNRESET: network("the connection was closed"),
  UND_ERR_SOCKET: network("the connection was closed"),
  UND_ERR_CONNECT_TIMEOUT: network("no answer to the connection"),
  ENOTFOUND: network("no such host"),
  EAI_AGAIN: network("names cannot be resolved now"),
  EHOSTUNREACH: network("no route to the host"),
  ENETUNREACH: network("the network is unreachable"),
  ETIMEDOUT: network("no answer"),
  UND_ERR_HEADERS_TIMEOUT: network("no answer"),
  UND_ERR_BODY_TIMEOUT: network("the answer stopped"),
  EPROTO: network("it does not speak TLS as it should"),
  ERR_SSL_WRONG_VERSION_NUMBER: network("it does not speak TLS"),
  ERR_SSL_PACKET_LENGTH_TOO_LONG: network("it does not speak TLS"),
  DEPTH_ZERO_SELF_SIGNED_CERT: certificate("its certificate is self-signed"),
  SELF_SIGNED_CERT_IN_CHAIN: certificate("its certificate leads to an authority that is not known here"),
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: certificate("its certificate is of an authority that is not known here"),
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: certificate("its certificate is of an authority that is not known here"),
  CERT_HAS_EXPIRED: certificate("its certificate has expired"),
  CERT_NOT_YET_VALID: certificate("its certificate is not valid yet"),
  ERR_TLS_CERT_ALTNAME_INVALID: certificate("its certificate is for another name"),
  EADDRINUSE: network("the address is in use"),
  EADDRNOTAVAIL: network("this machine does not have the address"),
  EMFILE: resources("too many open files"),
  ENFILE: resources("too many open files on this machine"),
  ENOMEM: resources("no memory"),
};

interface Errno extends Error {
  code?: string;
  syscall?: string;
  path?: string;
  address?: string;
  port?: number;
  hostname?: string;
}

/** Why a `fetch` failed, in words; undefined when this is not an error of the system. */
export function systemReason(error: unknown): string | undefined {
  for (let at = error; at instanceof Error; at = at.cause) {
    const meaning = meanings[(at as Errno).code ?? ""];
    if (meaning !== undefined) return meaning.says;
    if (at.name === "TimeoutError") return "no answer in time";
  }
  return undefined;
}

/** Why it failed, for a message that names the file or the address itself: an error of the system in words. */
export function reasonOf(error: unknown): string {
  if (error instanceof Failure) return messageOf(error);
  // `fetch` says that it failed, and its cause says why.
  const said = error instanceof TypeError && error.cause instanceof Error ? error.cause : error;
  return systemReason(error) ?? messageOf(said);
}

/** The same error with words; undefined when it is not one of the system. */
export function systemError(error: unknown): SystemError | undefined {
  for (let at = error; at instanceof Error && !(at instanceof Failure); at = at.cause) {
    const { code, path, address, port, hostname, syscall } = at as Errno;
    const meaning = meanings[code ?? ""];
    // A program that cannot be started is named by whoever starts it; this is what is left.
    if (meaning !== undefined && (syscall !== undefined || code!.includes("_"))) {
      const where = path ?? hostname ?? (address === undefined ? undefined : `${address}:${port ?? ""}`);
      const message = where === undefined ? meaning.says : `${where}: ${meaning.says}`;
      const facts = [["system", at.message]] as const;
      return new SystemError(meaning.code, meaning.kind, message, { facts, fix: meaning.fix, cause: error });
    }
    if (at.name === "TimeoutError") {
      return new SystemError("system/time-limit", "unavailable", "no answer in time", {
        fix: "check that the other side runs, then try again",
        cause: error,
      });
    }
  }
  return undefined;
}
