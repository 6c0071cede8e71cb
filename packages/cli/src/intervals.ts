/** Intervals on a common scale, drawn with characters, for the terminal. */

export interface Interval {
  label: string;
  /** Any unit, the same for all. */
  from: number;
  to: number;
}

/**
 * A line for each interval under a scale from the smallest to the largest value in view. What lies outside `view`
 * is cut to an arrow at the edge. `width` is in characters, without the labels.
 */
export function drawIntervals(
  intervals: readonly Interval[],
  view: { from: number; to: number },
  unit: string,
  width = 56,
): string[] {
  const span = Math.max(view.to - view.from, Number.MIN_VALUE);
  const column = (value: number) => Math.round(((value - view.from) / span) * (width - 1));
  const labelWidth = Math.max(...intervals.map(({ label }) => label.length));
  const [left, right] = [`${short(view.from)} ${unit}`, `${short(view.to)} ${unit}`];
  const scale = `${left}${" ".repeat(Math.max(1, width - left.length - right.length))}${right}`;
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
  return [`${" ".repeat(labelWidth)}  ${scale}`, ...lines];
}

const short = (value: number) => (value > 0 ? "+" : "") + Number(value.toPrecision(3)).toString();
