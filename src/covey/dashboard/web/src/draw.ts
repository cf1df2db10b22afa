/** Drawing the task stream: one pass, batched by colour, nothing below a pixel twice. */

import { colorOf } from "./colors";
import type { Rects } from "./rects";
import { CAPACITY } from "./rects";

export interface View {
  from: number;
  to: number;
  left: number;
  top: number;
  width: number;
  height: number;
}

export interface Bar {
  lane: number;
  start: number;
  label: string;
  task: string;
}

export interface Look {
  error: string;
  errorEdge: string;
  moved: string;
}

/** Height of a lane, and the gap below it. */
export function laneHeight(lanes: number, height: number): number {
  return Math.max(1, Math.min(40, height / Math.max(1, lanes)));
}

export function drawRects(
  context: CanvasRenderingContext2D,
  rects: Rects,
  rows: Int32Array,
  rowCount: number,
  view: View,
  look: Look,
): number {
  const { from, to, left, top, width, height } = view;
  const scale = width / (to - from);
  const row = laneHeight(rowCount, height);
  const inner = row > 4 ? row - 1.5 : row;
  const size = rects.size;
  const first = rects.total - size;
  /** The last pixel column that was filled, by lane: what falls onto it is seen already. */
  const filled = new Float64Array(rows.length).fill(-1);
  /** Left, top and width, one after the other, of what has one colour. */
  const batches = new Map<number, number[]>();
  const errors = new Path2D();
  const moves = new Path2D();
  let drawn = 0;
  let anyError = false;
  for (let n = first; n < rects.total; n++) {
    const at = n % CAPACITY;
    const stop = rects.stop[at];
    const start = rects.start[at];
    if (stop < from || start > to) continue;
    const lane = rects.lane[at];
    const line = rows[lane];
    if (line === undefined || line < 0) continue;
    let x0 = left + Math.max(0, (start - from) * scale);
    const x1 = left + Math.min(width, (stop - from) * scale);
    const how = rects.how[at];
    if (how !== 1) {
      if (x1 <= filled[lane]) continue;
      if (x0 < filled[lane]) x0 = filled[lane];
    }
    const wide = Math.max(x1 - x0, 1);
    filled[lane] = Math.max(filled[lane], x0 + wide);
    const y = top + line * row;
    drawn += 1;
    if (how === 1) {
      anyError = true;
      errors.rect(x0, y, Math.max(wide, 2), inner);
    } else if (how === 2) {
      moves.rect(x0, y + inner * 0.35, wide, Math.max(1, inner * 0.3));
    } else {
      const label = rects.label[at];
      let batch = batches.get(label);
      if (batch === undefined) batches.set(label, (batch = []));
      batch.push(x0, y, wide);
    }
  }
  for (const [label, batch] of batches) {
    context.fillStyle = colorOf(rects.labels[label]);
    for (let i = 0; i < batch.length; i += 3) context.fillRect(batch[i], batch[i + 1], batch[i + 2], inner);
  }
  context.fillStyle = look.moved;
  context.fill(moves);
  if (anyError) {
    context.fillStyle = look.error;
    context.fill(errors);
    context.strokeStyle = look.errorEdge;
    context.lineWidth = 1.2;
    context.stroke(errors);
  }
  return drawn;
}

/** Tasks that run now, growing up to `now`. */
export function drawBars(
  context: CanvasRenderingContext2D,
  bars: Bar[],
  rows: Int32Array,
  rowCount: number,
  view: View,
  now: number,
): void {
  const scale = view.width / (view.to - view.from);
  const row = laneHeight(rowCount, view.height);
  const inner = row > 4 ? row - 1.5 : row;
  for (const bar of bars) {
    const line = rows[bar.lane];
    if (line === undefined || line < 0) continue;
    const x0 = view.left + Math.max(0, (bar.start - view.from) * scale);
    const x1 = view.left + Math.min(view.width, (now - view.from) * scale);
    if (x1 <= view.left) continue;
    const y = view.top + line * row;
    context.fillStyle = colorOf(bar.label);
    context.globalAlpha = 0.55;
    context.fillRect(x0, y, Math.max(1, x1 - x0), inner);
    context.globalAlpha = 1;
    context.fillRect(x1 - 2, y, 2, inner);
  }
}

/** The rectangle at a place, the latest one on top. */
export function rectAt(rects: Rects, lane: number, time: number, slack: number): number {
  const first = rects.total - rects.size;
  let best = -1;
  let distance = slack;
  for (let n = rects.total - 1; n >= first; n--) {
    const at = n % CAPACITY;
    if (rects.lane[at] !== lane) continue;
    const off = Math.max(rects.start[at] - time, time - rects.stop[at], 0);
    if (off === 0) return at;
    if (off < distance) {
      distance = off;
      best = at;
    }
  }
  return best;
}
