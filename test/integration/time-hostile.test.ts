// SPDX-License-Identifier: Apache-2.0
/** Hostile servers and networks, each alone (what is it refused for?) and as one among honest chronyd servers. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type LookupFunction } from "node:net";
import { after, before, suite, test } from "node:test";
import { startTimeServers, type TimeServers } from "@caisson/host/time-servers";
import {
  measure,
  parseTimeConfiguration,
  type SourceReport,
  type Synchronization,
  synchronize,
  systemEnvironment,
  type TimeSource,
} from "@caisson/nts";
import { encodeField, fieldType } from "@caisson/nts/ntp";
import { encodeRecord, recordType } from "@caisson/nts/ntske";
import { createTestAuthority, type TestAuthority } from "@caisson/simulated/test-authority";
import { clockAt } from "../support/clock.ts";
import { type Behaviour, type HostileServer, startHostileServer } from "../support/time-hostile-server.ts";

const day = 24 * 3600 * 1000;
const hour = 3600 * 1000;
const floor = Date.UTC(2026, 0, 1);
const century = { notBefore: Date.UTC(2000, 0, 1), notAfter: Date.UTC(2200, 0, 1) };

function ask(
  sources: TimeSource[],
  more: { minOperators?: number; timeoutMs?: number; floor?: number } = {},
) {
  const { minOperators = 3, timeoutMs = 10_000 } = more;
  // Wide limits, so that a busy machine changes nothing; the lies are larger.
  const limits = { timeoutMs, maxWidthMs: 1500 };
  const configuration = parseTimeConfiguration({ sources, minOperators, limits });
  return synchronize(configuration, { floor: more.floor ?? floor });
}

const verdict = (result: Synchronization, name: string) =>
  result.sources.find(({ source }) => source.name === name)!.verdict;

/** Those who agree do not wait long for others: where these are late, as on a busy machine, all are asked again. */
async function askAndHear(sources: TimeSource[], heard: TimeSource[]): Promise<Synchronization> {
  for (let left = 20; ; left--) {
    const result = await ask(sources);
    if (left === 0 || heard.every(({ name }) => verdict(result, name) !== "unreachable")) return result;
  }
}

/** A name service that gives every name these addresses. */
const answering =
  (...addresses: { address: string; family: number }[]): LookupFunction =>
  (_name, _options, answer) =>
    answer(null, addresses);

/** Agreed, and the agreed interval contains `truth`, this machine's clock plus `offset`. */
function isRight(result: Synchronization, offset = 0): void {
  ok(
    result.agreement.agreed,
    JSON.stringify(result.sources.map(({ verdict, error }) => [verdict, error?.message])),
  );
  const clock = clockAt(result.at);
  ok(
    result.agreement.earliest - 2 <= clock.latest + offset &&
      clock.earliest + offset <= result.agreement.latest + 2,
  );
}

suite("hostile time servers and networks", () => {
  let honest: TimeServers;
  let authority: TestAuthority;
  let stranger: TestAuthority;
  let intermediate: TestAuthority;
  let expired: TestAuthority;
  const started: HostileServer[] = [];
  const hostile = async (operator: string, behaviour: Behaviour) => {
    const server = await startHostileServer(authority, operator, behaviour);
    started.push(server);
    return server;
  };

  before(async () => {
    honest = await startTimeServers(["a", "b", "c", "d"].map((operator) => ({ operator })));
    authority = honest.authority;
    intermediate = createTestAuthority("intermediate", century, authority);
    expired = createTestAuthority("expired", { notBefore: 0, notAfter: Date.now() - day }, authority);
    stranger = createTestAuthority("Caisson test time CA", century); // same name, other key
  });
  after(async () => {
    await Promise.all(started.map((server) => server.stop()));
    await honest.stop();
  });
  const four = () => honest.servers.map(({ source }) => source);

  const otherPacket = (reply: Uint8Array, at: number) => {
    const changed = Uint8Array.from(reply);
    changed[at]! ^= 1;
    return changed;
  };
  let recorded: Uint8Array | undefined;
  /** Key establishment that sends the client to an NTP server with a name. */
  const namesNtpServer: Behaviour = {
    answer: ([first, ...rest]) =>
      Buffer.concat([
        first!,
        encodeRecord(recordType.server, Buffer.from("ntp.hostile.test"), true),
        ...rest,
      ]),
  };

  /**
   * `alone`: the error or the verdict when it is the only source, or undefined when it is believed then.
   * `among`: the verdict when four honest sources agree.
   */
  const cases: { name: string; alone: string | undefined; among: string; behaviour: () => Behaviour }[] = [
    { name: "correct, for comparison", alone: undefined, among: "agrees", behaviour: () => ({}) },
    {
      name: "correct, with an intermediate authority",
      alone: undefined,
      among: "agrees",
      behaviour: () => ({ issuer: intermediate, chain: intermediate.certificate }),
    },
    {
      name: "a missing intermediate authority",
      alone: "certificate/untrusted",
      among: "unreachable",
      behaviour: () => ({ issuer: intermediate }),
    },
    {
      name: "an expired intermediate authority",
      alone: "certificate-expired",
      among: "certificate-expired",
      behaviour: () => ({ issuer: expired, chain: expired.certificate }),
    },
    {
      name: "a liar, an hour ahead",
      alone: undefined,
      among: "falseticker",
      behaviour: () => ({ offset: hour }),
    },
    {
      name: "a liar by three seconds",
      alone: undefined,
      among: "falseticker",
      behaviour: () => ({ offset: -3000 }),
    },
    {
      name: "wrong name",
      alone: "certificate/name",
      among: "unreachable",
      behaviour: () => ({ certifiedName: "other.test" }),
    },
    {
      name: "unknown CA of the same name",
      alone: "certificate/untrusted",
      among: "unreachable",
      behaviour: () => ({ issuer: stranger }),
    },
    {
      name: "unknown CA, hidden behind an expired certificate",
      alone: "certificate/untrusted",
      among: "unreachable",
      behaviour: () => ({ issuer: stranger, validity: { notBefore: 0, notAfter: day } }),
    },
    {
      name: "wrong name, hidden behind an expired certificate",
      alone: "certificate/name",
      among: "unreachable",
      behaviour: () => ({ certifiedName: "other.test", validity: { notBefore: 0, notAfter: day } }),
    },
    {
      name: "TLS 1.2 only",
      alone: "ke/tls",
      among: "unreachable",
      behaviour: () => ({ tls: { maxVersion: "TLSv1.2" } }),
    },
    {
      name: "another ALPN",
      alone: "ke/alpn",
      among: "unreachable",
      behaviour: () => ({ tls: { ALPNProtocols: ["http/1.1"] } }),
    },
    {
      name: "no ALPN",
      alone: "ke/alpn",
      among: "unreachable",
      behaviour: () => ({ tls: { ALPNProtocols: [] } }),
    },
    {
      name: "truncated records, then silence",
      alone: "ke/timeout",
      among: "unreachable",
      behaviour: () => ({ answer: (records) => Buffer.concat(records).subarray(0, 300) }),
    },
    {
      name: "truncated records, then the end",
      alone: "ke/malformed",
      among: "unreachable",
      behaviour: () => ({
        answer: (records) => Buffer.concat(records).subarray(0, 300),
        afterAnswer: (socket) => socket.end(),
      }),
    },
    {
      name: "duplicated records",
      alone: "ke/malformed",
      among: "unreachable",
      behaviour: () => ({ answer: ([first, ...rest]) => Buffer.concat([first!, first!, ...rest]) }),
    },
    {
      name: "oversized cookies",
      alone: "ke/malformed",
      among: "unreachable",
      behaviour: () => ({
        answer: (records) =>
          Buffer.concat([
            ...records.slice(0, 3),
            encodeRecord(recordType.cookie, randomBytes(4000), false),
            records.at(-1)!,
          ]),
      }),
    },
    {
      name: "an endless answer",
      alone: "ke/malformed",
      among: "unreachable",
      behaviour: () => ({
        answer: () => encodeRecord(1234, new Uint8Array(60_000), false),
        afterAnswer: (socket) => socket.write(new Uint8Array(200_000)),
      }),
    },
    {
      name: "an error record",
      alone: "ke/refused",
      among: "unreachable",
      behaviour: () => ({
        answer: (records) =>
          Buffer.concat([encodeRecord(recordType.error, Uint8Array.of(0, 2), true), records.at(-1)!]),
      }),
    },
    {
      name: "silent after TLS",
      alone: "ke/timeout",
      among: "unreachable",
      behaviour: () => ({ answer: () => undefined }),
    },
    {
      name: "silent on NTP",
      alone: "ntp/timeout",
      among: "unreachable",
      behaviour: () => ({ reply: () => [] }),
    },
    {
      name: "bit-flipped replies",
      alone: "ntp/authentication",
      among: "unreachable",
      behaviour: () => ({ reply: (reply) => [otherPacket(reply, 43)] }),
    },
    {
      name: "replayed replies",
      alone: "ntp/timeout",
      among: "unreachable",
      behaviour: () => ({
        reply: (reply, _, count) => {
          recorded ??= reply;
          return count <= 4 ? [] : [recorded]; // four requests are one exchange
        },
      }),
    },
    {
      name: "a flood of NAKs",
      alone: "ntp/nak",
      among: "unreachable",
      behaviour: () => ({
        reply: (reply) => {
          const nak = Uint8Array.from(reply.subarray(0, 48 + 36));
          nak[1] = 0;
          nak.set(Buffer.from("NTSN"), 12);
          return Array.from({ length: 200 }, () => nak);
        },
      }),
    },
    {
      name: "a NAK flood before the true reply",
      alone: undefined,
      among: "agrees",
      behaviour: () => ({
        reply: (reply) => {
          const nak = Uint8Array.from(reply.subarray(0, 48 + 36));
          nak[1] = 0;
          nak.set(Buffer.from("NTSN"), 12);
          return [nak, otherPacket(reply, 60), otherPacket(reply, reply.length - 1), nak, reply, reply];
        },
      }),
    },
    {
      name: "authenticated kiss-o'-death",
      alone: "ntp/kiss",
      among: "unreachable",
      behaviour: () => ({
        header: (header) => {
          header[1] = 0;
          header.set(Buffer.from("RATE"), 12);
        },
      }),
    },
    {
      name: "just started: stratum 0, INIT",
      alone: "ntp/unsynchronized",
      among: "unreachable",
      behaviour: () => ({
        header: (header) => {
          header[0] = (3 << 6) | (4 << 3) | 4;
          header[1] = 0;
          header.set(Buffer.from("INIT"), 12);
        },
      }),
    },
    {
      name: "unsynchronized",
      alone: "ntp/unsynchronized",
      among: "unreachable",
      behaviour: () => ({
        header: (header) => {
          header[0] = (3 << 6) | (4 << 3) | 4;
        },
      }),
    },
    {
      name: "a clock that moves in steps of eight seconds",
      alone: "too-wide",
      among: "agrees",
      behaviour: () => ({ header: (header) => header.writeInt8(3, 3) }),
    },
    {
      name: "an authentic reply that was sent before the request came",
      alone: "ntp/malformed",
      among: "unreachable",
      behaviour: () => ({ header: (header) => header.writeUInt32BE(header.readUInt32BE(32) + 1, 32) }),
    },
    {
      name: "oversized cookies inside the reply",
      alone: undefined,
      among: "agrees",
      behaviour: () => ({ inside: () => encodeField(fieldType.cookie, new Uint8Array(20_000)) }),
    },
    {
      name: "a root dispersion of ten seconds",
      alone: "too-wide",
      among: "agrees",
      behaviour: () => ({ header: (header) => header.writeUInt32BE(10 * 65536, 8) }),
    },
    {
      name: "1.4 seconds of delay in one direction",
      alone: "too-slow",
      among: "unreachable",
      behaviour: () => ({ replyDelay: 1400 }),
    },
    {
      name: "an expired certificate",
      alone: "certificate-expired",
      among: "certificate-expired",
      behaviour: () => ({ validity: { notBefore: Date.now() - 2 * day, notAfter: Date.now() - day } }),
    },
    {
      name: "an expired certificate, and a clock at which it was valid",
      alone: undefined, // nobody contradicts it, and it is after the build epoch
      among: "certificate-expired",
      behaviour: () => ({
        offset: -30 * day,
        validity: { notBefore: Date.now() - 60 * day, notAfter: Date.now() - 20 * day },
      }),
    },
    {
      name: "a certificate of tomorrow",
      alone: "certificate-not-yet-valid",
      among: "certificate-not-yet-valid",
      behaviour: () => ({ validity: { notBefore: Date.now() + day, notAfter: Date.now() + 2 * day } }),
    },
  ];

  // Most of these wait for a time limit, so they wait together.
  suite("as the only source", { concurrency: 8 }, () => {
    for (const [index, { name, alone, behaviour }] of cases.entries()) {
      test(name, { timeout: 20_000 }, async () => {
        const { source } = await hostile(`alone${index}`, behaviour());
        if (alone?.includes("/") === true) {
          const signal = new AbortController().signal;
          const code = new RegExp(`^(${alone.replace(" or ", "|")})$`);
          await rejects(measure(source, new Map(), systemEnvironment, floor, signal), { code });
          return;
        }
        const { sources, agreement } = await ask([source], { minOperators: 1, timeoutMs: 6000 });
        const [{ verdict }] = sources as [SourceReport];
        equal(agreement.agreed, alone === undefined, verdict);
        if (!agreement.agreed) ok([verdict, agreement.reason].includes(alone as never), verdict);
      });
    }
  });

  suite("as one of five, the others being honest", () => {
    for (const [index, { name, among, behaviour }] of cases.entries()) {
      test(name, async () => {
        const server = await hostile(`among${index}`, behaviour());
        const heard = among === "unreachable" ? [] : [server.source];
        const result = await askAndHear([...four(), server.source], heard);
        isRight(result);
        equal(verdict(result, server.source.name), among);
      });
    }
  });

  test("two operators of five collude, an hour ahead together: they lose and are named", async () => {
    const liars = [await hostile("x", { offset: hour }), await hostile("y", { offset: hour })];
    const named = liars.map(({ source }) => source);
    const result = await askAndHear([...four().slice(0, 3), ...named], named);
    isRight(result);
    deepEqual(result.agreement.agreed && result.agreement.operators, ["a", "b", "c"]);
    deepEqual(
      liars.map(({ source }) => verdict(result, source.name)),
      ["falseticker", "falseticker"],
    );
  });

  test("two of five collude and only one honest source answers: no agreement", async () => {
    const liars = [await hostile("p", { offset: hour }), await hostile("q", { offset: hour })];
    const mute = [await hostile("r", { answer: () => undefined }), await hostile("s", { reply: () => [] })];
    const result = await ask([four()[0]!, ...[...liars, ...mute].map(({ source }) => source)], {
      timeoutMs: 5000,
    });
    deepEqual([result.agreement.agreed, !result.agreement.agreed && result.agreement.votes], [false, 2]);
  });

  test("two seconds of delay in one direction, from every source: no agreement", async () => {
    const servers = await Promise.all(["d1", "d2", "d3"].map((name) => hostile(name, { replyDelay: 2000 })));
    equal(
      (
        await ask(
          servers.map(({ source }) => source),
          { timeoutMs: 5000 },
        )
      ).agreement.agreed,
      false,
    );
  });

  test("two seconds of delay in one direction, from two of five: the others decide", async () => {
    const slow = await Promise.all(["d4", "d5"].map((name) => hostile(name, { replyDelay: 2000 })));
    const result = await ask([...four().slice(0, 3), ...slow.map(({ source }) => source)]);
    isRight(result);
    deepEqual(result.agreement.agreed && result.agreement.operators, ["a", "b", "c"]);
  });

  test("wrong local clock: certificates of 2080 are good when all sources say 2080", async () => {
    const validity = { notBefore: Date.UTC(2080, 0, 1), notAfter: Date.UTC(2081, 0, 1) };
    const offset = Date.UTC(2080, 5, 1) - Date.now();
    const servers = await Promise.all(["f1", "f2", "f3"].map((name) => hostile(name, { offset, validity })));
    isRight(await ask(servers.map(({ source }) => source)), offset);
  });

  test("expired certificates with a matching clock are refused below the build epoch", async () => {
    const validity = { notBefore: Date.UTC(2020, 0, 1), notAfter: Date.UTC(2021, 0, 1) };
    const offset = Date.UTC(2020, 5, 1) - Date.now();
    const servers = await Promise.all(["e1", "e2", "e3"].map((name) => hostile(name, { offset, validity })));
    const result = await ask(servers.map(({ source }) => source));
    equal(result.agreement.agreed, false);
    equal(verdict(result, servers[0]!.source.name), "before-floor");
  });

  test("4460 blocked, 123 open: nothing falls back to plain NTP", async () => {
    const servers = await Promise.all(["n1", "n2", "n3"].map((name) => hostile(name, {})));
    const blocked = servers.map(({ source }) => ({ ...source, kePort: 1 }));
    const result = await ask(blocked, { timeoutMs: 2000 });
    deepEqual(
      result.sources.map(({ error }) => error?.code),
      ["ke/connect", "ke/connect", "ke/connect"],
    );
    deepEqual(
      servers.map((server) => server.requests()),
      [0, 0, 0],
    );
  });

  test("an intermediate authority may be all that is trusted", async () => {
    const server = await hostile("below", { issuer: intermediate, chain: intermediate.certificate });
    const other = await hostile("beside", {});
    const trusting = (source: TimeSource) => ({ ...source, ca: intermediate.certificate });
    isRight(await ask([trusting(server.source)], { minOperators: 1 }));
    await rejects(
      measure(trusting(other.source), new Map(), systemEnvironment, floor, new AbortController().signal),
      { code: "certificate/untrusted" },
    );
  });

  test("a flapping server is asked again until it answers", async () => {
    let answers = 0;
    const flap: Behaviour = {
      answer: (records) => (answers++ < 2 ? Uint8Array.of(0, 9, 0) : Buffer.concat(records)),
      afterAnswer: (socket) => {
        if (answers <= 2) socket.end();
      },
    };
    const server = await hostile("flap", flap);
    const result = await ask([server.source], { minOperators: 1 });
    isRight(result);
    equal(result.sources[0]!.attempts, 3);
  });

  test("half of all replies lost: requests are repeated with other cookies", async () => {
    const servers = await Promise.all(
      ["l1", "l2", "l3"].map((name) =>
        hostile(name, { reply: (reply, _, count) => (count % 2 === 1 ? [] : [reply]) }),
      ),
    );
    isRight(await ask(servers.map(({ source }) => source)));
    ok(servers.every((server) => server.requests() >= 2));
  });

  test("a server that accepts connections and never speaks costs nothing but its vote", async () => {
    const mute = createServer().listen(0, "127.0.0.1");
    await once(mute, "listening");
    const { port } = mute.address() as { port: number };
    const source = { ...four()[0]!, name: "mute.test", operator: "mute", kePort: port };
    const result = await ask([...four(), source]);
    mute.close();
    isRight(result);
    equal(verdict(result, "mute.test"), "unreachable");
  });

  test("DNS lies: the server that it names has a good certificate, but not for this name", async () => {
    const elsewhere = await hostile("elsewhere", {});
    const { address: _, ...source } = { ...elsewhere.source, name: "honest.hostile.test" };
    const environment = { ...systemEnvironment, lookup: answering({ address: "127.0.0.1", family: 4 }) };
    await rejects(measure(source, new Map(), environment, floor, new AbortController().signal), {
      code: "certificate/name",
    });
    equal(elsewhere.requests(), 0);
  });

  test("DNS knows nothing: neither of the key establishment server nor of the NTP server", async () => {
    const lookup: LookupFunction = (name, _options, answer) =>
      answer(Object.assign(new Error(`no ${name}`), { code: "ENOTFOUND" }), []);
    const environment = { ...systemEnvironment, lookup };
    const elsewhere = await hostile("unknown", namesNtpServer);
    const { address: _, ...unpinned } = elsewhere.source;
    for (const [source, who] of [
      [unpinned, /^unknown\.hostile\.test has no address/],
      [elsewhere.source, /NTP server ntp\.hostile\.test has no address/],
    ] as const) {
      await rejects(measure(source, new Map(), environment, floor, new AbortController().signal), {
        code: "ke/lookup",
        message: who,
      });
    }
  });

  test("a pinned address: DNS is not asked", async () => {
    const { source } = await hostile("pinned", {});
    const lookup = () => {
      throw new Error("DNS was asked");
    };
    const environment = { ...systemEnvironment, lookup };
    const { rtt } = await measure(source, new Map(), environment, floor, new AbortController().signal);
    ok(rtt >= 0);
  });

  test("an NTP server with a name: of its addresses, one of the IP version that worked before", async () => {
    const named = await hostile("named", namesNtpServer);
    const lookup = answering({ address: "::1", family: 6 }, { address: "127.0.0.1", family: 4 });
    const environment = { ...systemEnvironment, lookup };
    await measure(named.source, new Map(), environment, floor, new AbortController().signal);
    equal(named.requests(), 1);
  });

  test("a look-up that never ends is given up with the rest", async () => {
    const named = await hostile("stuck", namesNtpServer);
    const enough = new AbortController();
    const environment = { ...systemEnvironment, lookup: () => void setImmediate(() => enough.abort()) };
    await rejects(measure(named.source, new Map(), environment, floor, enough.signal), {
      code: "ntp/timeout",
    });
  });

  test("a source that has not answered in time says so", async () => {
    const { source } = await hostile("late", { answer: () => undefined });
    const { sources } = await ask([source], { minOperators: 1, timeoutMs: 300 });
    equal(sources[0]!.error?.code, "time/late");
  });

  test("a kiss-o'-death is obeyed: one request and no more", async () => {
    const server = await hostile("kiss", {
      header: (header) => {
        header[1] = 0;
        header.set(Buffer.from("DENY"), 12);
      },
    });
    const { sources, elapsed } = await ask([server.source], { minOperators: 1, timeoutMs: 5000 });
    deepEqual([sources[0]!.error?.code, sources[0]!.attempts, server.requests()], ["ntp/kiss", 1, 1]);
    ok(elapsed < 4000, `${elapsed} ms`);
  });

  test("a server that has just started is asked again, with the same keys, until it knows the time", async () => {
    let left = 2;
    let establishments = 0;
    const server = await hostile("init", {
      answer: (records) => {
        establishments++;
        return Buffer.concat(records);
      },
      header: (header) => {
        if (left-- <= 0) return;
        header[0] = (3 << 6) | (4 << 3) | 4;
        header[1] = 0;
        header.set(Buffer.from("INIT"), 12);
      },
    });
    const result = await ask([server.source], { minOperators: 1 });
    isRight(result);
    deepEqual([result.sources[0]!.attempts, establishments], [3, 1]);
  });

  test("IPv6", async () => {
    const server = await hostile("six", { address: "::1" });
    isRight(await ask([server.source], { minOperators: 1 }));
  });

  test("kept keys and cookies are used again, and renewed", async () => {
    let establishments = 0;
    const server = await hostile("keep", {
      answer: (records) => {
        establishments++;
        return Buffer.concat(records);
      },
    });
    const associations = new Map();
    const configuration = parseTimeConfiguration({ sources: [server.source], minOperators: 1 });
    for (let i = 0; i < 12; i++) isRight(await synchronize(configuration, { floor, associations }));
    equal(establishments, 1);
    ok(server.requests() >= 12);
    equal(associations.get(server.source.name).cookies.length, 8);
  });
});
