// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import { mock, test } from "node:test";
import { limitShare } from "./share.ts";

/** A clock on which each call takes PID 1 so many milliseconds, all of them running. */
function calls(cost: number) {
  let [time, run] = [0, 0];
  const frozen: boolean[] = [];
  const called = limitShare((on) => frozen.push(on), { now: () => time, ran: () => run });
  const call = (count: number): void => {
    for (let n = 0; n < count && frozen.at(-1) !== true; n++) {
      time += cost;
      run += cost;
      called();
    }
  };
  const wait = (ms: number): void => {
    time += ms;
    mock.timers.tick(ms);
  };
  return { call, wait, frozen, spent: () => run, passed: () => time };
}

test("a service that calls now and then is never stopped", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const { call, wait, frozen } = calls(100);
  for (let n = 0; n < 50; n++) {
    call(1);
    wait(100);
  }
  deepEqual(frozen, []);
  mock.timers.reset();
});

test("a flood gets a fifth of a processor and no more, and goes on when it has waited", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const { call, wait, frozen, spent, passed } = calls(5);
  while (passed() < 60_000) {
    call(1_000);
    wait(10);
  }
  const part = spent() / passed();
  equal(part > 0.15 && part < 0.25, true, String(part));
  equal(frozen.filter((on) => on).length > 20, true);
  mock.timers.reset();
});
