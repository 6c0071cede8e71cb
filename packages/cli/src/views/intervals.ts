// SPDX-License-Identifier: Apache-2.0
/** Intervals on a common scale, drawn with characters, for the terminal. */

export interface Interval {
  label: string;
  /** Any unit, the same for all. */
  from: number;
  to: number;
}

export interface Scale {
  /** The first and the last value in view. */
  from: number;
  to: number;
  unit: string;
  /** Says what zero is; left out where there is no room. */
  caption: string;
  /** Characters a line, the labels included. */
  columns: number;
}

/** A line for each interval under a line with the scale. What lies out of view is an arrow at the edge. */
export function drawIntervals(intervals: readonly Interval[], scale: Scale): string[] {
  const labelWidth = Math.max(...intervals.map(({ label }) => label.length));
  const width = Math.max(16, scale.columns - labelWidth - 2);
  const span = Math.max(scale.to - scale.from, Number.MIN_VALUE);
  const column = (value: number) => Math.round(((value - scale.from) / span) * (width - 1));
  const lines = intervals.map(({ label, from, to }) => {
    const [start, end] = [column(from), column(to)];
    const cells = Array.from({ length: width }, (_, at): string => {
      if (at < start || at > end) return " ";
      if (start === end) return "┼";
      return at === start ? "├" : at === end ? "┤" : "─";
    });
    if (end < 0) cells[0] = "◀";
    if (start >= width) cells[width - 1] = "▶";
    return `${label.padEnd(labelWidth)}  ${cells.join("").trimEnd()}`;
  });
  return [`${" ".repeat(labelWidth)}  ${ruler(scale, width)}`, ...lines];
}

function ruler({ from, to, unit, caption }: Scale, width: number): string {
  const [left, right] = [`${short(from)} ${unit}`, `${short(to)} ${unit}`];
  const room = width - left.length - right.length;
  const middle = caption.length + 2 <= room ? caption : "";
  const before = Math.max(1, Math.floor((width - middle.length) / 2) - left.length);
  return `${left}${" ".repeat(before)}${middle}`.padEnd(width - right.length) + right;
}

const short = (value: number) => (value > 0 ? "+" : "") + Number(value.toPrecision(3)).toString();
