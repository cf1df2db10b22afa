/**
 * Drawing the task stream.
 *
 * Rectangles are painted by ourselves: each lane is a row of pixels, a rectangle colours a
 * part of it, and the rows are then copied as often as a lane is high.  A hundred thousand
 * rectangles, most of them narrower than a pixel, cost a hundred thousand short writes.
 */

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

/** A picture of our own, kept from one time to the next. */
class Picture {
  private readonly canvas = document.createElement("canvas");
  private readonly context = this.canvas.getContext("2d", { willReadFrequently: true })!;
  private image = new ImageData(1, 1);
  private pixels = new Uint32Array(1);
  private lines = new Uint32Array(1);

  /** Make it so large, and empty; return a line of pixels for each lane. */
  begin(width: number, height: number, lanes: number): Uint32Array {
    if (this.image.width !== width || this.image.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
      this.image = new ImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
    } else this.pixels.fill(0);
    const size = width * lanes;
    if (this.lines.length < size) this.lines = new Uint32Array(size);
    else this.lines.fill(0, 0, size);
    return this.lines;
  }

  /** Copy the line of a lane to all the rows from `top` to `bottom`. */
  spread(lane: number, top: number, bottom: number): void {
    const width = this.image.width;
    const line = this.lines.subarray(lane * width, (lane + 1) * width);
    const end = Math.min(bottom, this.image.height);
    for (let y = Math.max(0, top); y < end; y++) this.pixels.set(line, y * width);
  }

  /** Add the line of a lane to a row that it shares with other lanes. */
  mix(lane: number, y: number): void {
    const width = this.image.width;
    if (y >= this.image.height) return;
    for (let x = 0, from = lane * width, to = y * width; x < width; x++, from++, to++) {
      if (this.lines[from]) this.pixels[to] = this.lines[from];
    }
  }

  show(context: CanvasRenderingContext2D, view: View): void {
    this.context.putImageData(this.image, 0, 0);
    context.drawImage(this.canvas, view.left, view.top, view.width, view.height);
  }
}

let picture: Picture | null = null;

/** A colour as the pixels of a picture hold it. */
function pixelOf(color: string): number {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

/** Errors are outlined as long as they are so few. */
const OUTLINED_MAX = 2_000;

export function drawRects(
  context: CanvasRenderingContext2D,
  rects: Rects,
  rows: Int32Array,
  rowCount: number,
  view: View,
  look: Look,
): number {
  picture ??= new Picture();
  const { from, to } = view;
  const ratio = context.getTransform().a || 1;
  const width = Math.max(1, Math.round(view.width * ratio));
  const height = Math.max(1, Math.round(view.height * ratio));
  const scale = width / (to - from);
  const lines = picture.begin(width, height, rowCount);
  const colors = rects.labels.map((label) => pixelOf(colorOf(label)));
  const [error, moved] = [pixelOf(look.error), pixelOf(look.moved)];
  const outlines: number[] = [];
  const first = rects.total - rects.size;
  let drawn = 0;
  for (let n = first; n < rects.total; n++) {
    const at = n % CAPACITY;
    const stop = rects.stop[at];
    const start = rects.start[at];
    if (stop < from || start > to) continue;
    const line = rows[rects.lane[at]];
    if (line === undefined || line < 0) continue;
    const x0 = Math.min(width - 1, Math.max(0, Math.floor((start - from) * scale)));
    let x1 = Math.min(width, Math.max(x0 + 1, Math.round((stop - from) * scale)));
    const how = rects.how[at];
    let color = how === 0 ? colors[rects.label[at]] : moved;
    if (how === 1) {
      color = error;
      x1 = Math.min(width, Math.max(x1, x0 + 2 * ratio));
      if (outlines.length < 3 * OUTLINED_MAX) outlines.push(line, x0, x1);
    } else if (x1 - x0 > 3) x1 -= 1; // A gap, so that one can tell it from the next.
    const base = line * width;
    if (x1 - x0 === 1) lines[base + x0] = color;
    else lines.fill(color, base + x0, base + x1);
    drawn += 1;
  }
  const row = laneHeight(rowCount, view.height) * ratio;
  const thin = thinRows(rects, rows, rowCount);
  for (let line = 0; line < rowCount; line++) {
    const top = Math.round(line * row);
    const inner = row > 4 ? row - 1.5 * ratio : row;
    if (row < 1) picture.mix(line, Math.floor(line * row));
    else if (thin[line]) picture.spread(line, Math.round(top + inner * 0.35), Math.max(Math.round(top + inner * 0.65), Math.round(top + inner * 0.35) + 1));
    else picture.spread(line, top, Math.max(top + 1, Math.round(top + inner)));
  }
  picture.show(context, view);
  outline(context, outlines, row / ratio, ratio, view, look);
  return drawn;
}

/** Lanes of transfers are drawn as thin lines. */
function thinRows(rects: Rects, rows: Int32Array, rowCount: number): Uint8Array {
  const thin = new Uint8Array(rowCount);
  rects.lanes.forEach((lane, at) => {
    if (lane.slot < 0 && rows[at] >= 0) thin[rows[at]] = 1;
  });
  return thin;
}

function outline(context: CanvasRenderingContext2D, found: number[], row: number, ratio: number, view: View, look: Look): void {
  if (!found.length) return;
  const inner = row > 4 ? row - 1.5 : row;
  context.beginPath();
  for (let at = 0; at < found.length; at += 3) {
    const [line, x0, x1] = [found[at], found[at + 1] / ratio, found[at + 2] / ratio];
    context.rect(view.left + x0, view.top + line * row, x1 - x0, inner);
  }
  context.strokeStyle = look.errorEdge;
  context.lineWidth = 1.2;
  context.stroke();
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
