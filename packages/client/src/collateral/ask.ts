// SPDX-License-Identifier: Apache-2.0
/** One question to a server of collateral: bounded in size and time, patient with those who say that they are busy. */
import { firstBytes } from "@caisson/vocabulary/body";
import { Failure } from "@caisson/vocabulary/failure";
import { reasonOf } from "@caisson/vocabulary/system-error";

import { CollateralError } from "./errors.ts";

/** The largest answer that is read; real ones have at most some 20 kB. */
const MAX_BODY = 1 << 20;
const REQUEST_LIMIT_MS = 20_000;
const LEAST_WAIT_MS = 1_000;

/** What asking needs of the world; each part may be replaced. */
export interface World {
  now: Date;
  fetch?: (url: string, init: { redirect: "error"; signal: AbortSignal }) => Promise<Response>;
  sleep?: (ms: number) => Promise<void>;
  /** How long a busy server is waited for, all in all. */
  patienceMs?: number;
  /** Told before each wait. */
  onWait?: (url: string, ms: number) => void;
}

export interface Answer {
  bytes: Uint8Array;
  header: (name: string) => string | undefined;
}

const sleepFor = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/**
 * Asks once, and again while the server is busy (429, 503): after what Retry-After says, else with doubling delays.
 * @throws CollateralError "collateral/unreachable", "collateral/busy", "collateral/not-served", "collateral/answer"
 */
export async function ask(url: string, world: World): Promise<Answer> {
  const { sleep = sleepFor, patienceMs = 180_000, onWait } = world;
  let patience = patienceMs;
  for (let delay = 2_000; ; delay *= 2) {
    const response = await request(url, world);
    if (response.status !== 429 && response.status !== 503) return readAnswer(url, response);
    await response.body?.cancel();
    const asked = retryAfterMs(response.headers.get("retry-after"), world.now) ?? delay;
    // A server that says "at once", again and again, would be asked for ever.
    const wait = Math.max(asked, LEAST_WAIT_MS);
    if (wait > patience) {
      throw new CollateralError(
        "collateral/busy",
        "unavailable",
        `${url} answers ${response.status}: it is busy`,
        {
          facts: [["waited", `${Math.round((patienceMs - patience) / 1000)} s`]],
          fix: `ask again in ${Math.ceil(wait / 1000)} s, or another source (--from)`,
        },
      );
    }
    onWait?.(url, wait);
    await sleep(wait);
    patience -= wait;
  }
}

async function request(url: string, { fetch: own = fetch }: World): Promise<Response> {
  try {
    return await own(url, { redirect: "error", signal: AbortSignal.timeout(REQUEST_LIMIT_MS) });
  } catch (error) {
    throw unreachable(url, error);
  }
}

function unreachable(url: string, error: unknown): CollateralError {
  return new CollateralError(
    "collateral/unreachable",
    "unavailable",
    `no answer from ${url}: ${reasonOf(error)}`,
    {
      fix: "see whether the address is right and reachable; a redirect is not followed; a PCCS's own certificate: NODE_EXTRA_CA_CERTS",
      cause: error,
    },
  );
}

/** Seconds, or a date. */
function retryAfterMs(value: string | null, now: Date): number | undefined {
  if (value === null) return undefined;
  if (/^\d{1,6}$/.test(value)) return Number(value) * 1000;
  const at = Date.parse(value);
  return Number.isNaN(at) ? undefined : Math.max(0, at - now.getTime());
}

/** Codes with a meaning of their own: PCS's, and a PCCS's. */
const meanings: Readonly<Record<number, string>> = {
  404: "it does not know this platform, or has nothing cached for it",
  410: "this evaluation number is no longer offered",
  460: "the PCCS says that its data are damaged",
  461: "the PCCS does not know this platform",
  462: "the PCCS has no certificate for this TCB",
  502: "the PCCS got no answer from Intel",
};

async function readAnswer(url: string, response: Response): Promise<Answer> {
  if (!response.ok) {
    await response.body?.cancel();
    const { status } = response;
    const meaning = meanings[status];
    throw new CollateralError(
      "collateral/not-served",
      status >= 500 ? "unavailable" : "input",
      `${url} answers ${status}${meaning === undefined ? "" : `: ${meaning}`}`,
      { fix: "check the platform (FMSPC, chip), or ask another source (--from)" },
    );
  }
  try {
    const { bytes, more } = await firstBytes(response.body, MAX_BODY);
    if (more) throw wrongAnswer(url, `it sends more than ${MAX_BODY} bytes`);
    const header = (name: string) => response.headers.get(name) ?? undefined;
    return { bytes, header };
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw unreachable(url, error);
  }
}

/** An answer that is not what was asked for. */
export function wrongAnswer(url: string, what: string): CollateralError {
  return new CollateralError("collateral/answer", "input", `the answer of ${url} cannot be used: ${what}`, {
    fix: "ask another source (--from)",
  });
}
