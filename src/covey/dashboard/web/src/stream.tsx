/** The task stream: a lane for each slot, running tasks growing, hover, zoom, pan, keys. */

import { useEffect, useRef, useState } from "preact/hooks";
import { colorOf, themeColor } from "./colors";
import { type Bar, drawBars, drawRects, laneHeight, rectAt, type View } from "./draw";
import * as format from "./format";
import { Rects } from "./rects";
import { store } from "./store";

const LEFT = 96;
const AXIS = 20;
const OVERVIEW = 26;

interface Tip {
  x: number;
  y: number;
  lines: string[];
  label: string;
}

/** Which line each lane is drawn on: by worker, then by slot; transfers last. */
function arrange(): { rows: Int32Array; names: string[]; count: number } {
  const lanes = store.rects.lanes;
  const order = lanes.map((_, index) => index).filter((index) => {
    const worker = store.workers.get(lanes[index].worker);
    return worker === undefined || worker.left === null || store.now - worker.left < 600;
  });
  order.sort((a, b) => {
    const byWorker = lanes[a].worker.localeCompare(lanes[b].worker, undefined, { numeric: true });
    if (byWorker) return byWorker;
    return (lanes[a].slot < 0 ? 1e9 : lanes[a].slot) - (lanes[b].slot < 0 ? 1e9 : lanes[b].slot);
  });
  const rows = new Int32Array(lanes.length).fill(-1);
  order.forEach((lane, line) => (rows[lane] = line));
  const names = order.map((lane) => {
    const { worker, slot } = lanes[lane];
    return slot < 0 ? `${worker} ⇄` : `${worker} · ${slot}`;
  });
  return { rows, names, count: order.length };
}

function running(): Bar[] {
  const bars: Bar[] = [];
  for (const worker of store.workers.values()) {
    if (worker.left !== null) continue;
    for (const [slot, task, label, seconds] of worker.running) {
      bars.push({ lane: store.rects.laneOf(worker.name, slot), start: worker.sampled - seconds, label, task });
    }
  }
  return bars;
}

function step(span: number, most: number): number {
  const raw = span / most;
  const power = 10 ** Math.floor(Math.log10(raw));
  for (const factor of [1, 2, 5, 10]) if (factor * power >= raw) return factor * power;
  return 10 * power;
}

export function Stream({ height, tall = false }: { height: number; tall?: boolean }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const view = useRef({ span: 30, to: 0, follow: true });
  const [follow, setFollow] = useState(true);
  const [tip, setTip] = useState<Tip | null>(null);

  useEffect(() => {
    const element = canvas.current!;
    const context = element.getContext("2d")!;
    let frame = 0;
    let alive = true;

    const paint = () => {
      if (!alive) return;
      const ratio = Math.min(2, window.devicePixelRatio || 1);
      const width = element.clientWidth;
      const tallness = element.clientHeight;
      if (element.width !== Math.round(width * ratio) || element.height !== Math.round(tallness * ratio)) {
        element.width = Math.round(width * ratio);
        element.height = Math.round(tallness * ratio);
      }
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      const began = performance.now();
      draw(context, width, tallness);
      const cost = performance.now() - began;
      // Smooth while it is cheap; a machine that struggles is asked less often.
      frame = window.setTimeout(() => requestAnimationFrame(paint), store.link === "replay" ? 250 : Math.max(30, 3 * cost));
    };

    const draw = (c: CanvasRenderingContext2D, width: number, tallness: number) => {
      const now = store.clock;
      const bars = running();
      const { rows, names, count } = arrange();
      const v = view.current;
      if (v.follow) v.to = now;
      const area: View = {
        from: v.to - v.span,
        to: v.to,
        left: LEFT,
        top: 2,
        width: Math.max(10, width - LEFT - 4),
        height: tallness - AXIS - OVERVIEW - 4,
      };
      c.clearRect(0, 0, width, tallness);
      const line = themeColor("line");
      const faint = themeColor("faint");
      const row = laneHeight(count, area.height);
      c.fillStyle = themeColor("lane");
      for (let at = 0; at < count; at += 1) {
        if (row > 4) c.fillRect(area.left, area.top + at * row, area.width, row - 1.5);
      }
      if (row <= 4) c.fillRect(area.left, area.top, area.width, row * count);
      const every = step(v.span, area.width / 90);
      c.font = "11px system-ui, sans-serif";
      c.textAlign = "center";
      c.textBaseline = "top";
      const bottom = area.top + Math.max(row * count, 20);
      for (let back = Math.max(0, Math.floor((now - area.to) / every)) * every; now - back >= area.from; back += every) {
        const t = now - back;
        if (t > area.to) continue;
        const x = area.left + ((t - area.from) / v.span) * area.width;
        c.fillStyle = line;
        c.fillRect(x, area.top, 1, bottom - area.top);
        c.fillStyle = faint;
        c.fillText(back < every / 2 ? "now" : `-${format.seconds(back)}`, Math.min(x, area.left + area.width - 12), tallness - OVERVIEW - AXIS + 3);
      }
      const look = { error: themeColor("error-fill"), errorEdge: themeColor("bad"), moved: themeColor("moved") };
      drawRects(c, store.rects, rows, count, area, look);
      drawBars(c, bars, rows, count, area, now);
      c.textAlign = "right";
      c.textBaseline = "middle";
      c.fillStyle = faint;
      const each = Math.max(1, Math.ceil(13 / row));
      for (let at = 0; at < count; at += each) {
        c.fillText(clip(names[at], 15), area.left - 8, area.top + at * row + Math.min(row, 40) / 2);
      }
      overview(c, width, tallness, now, v, area);
      if (!count) {
        c.textAlign = "center";
        c.fillText("no task has run yet", area.left + area.width / 2, area.top + area.height / 2);
      }
    };

    // For benchmarks/dashboard.py: draw n rectangles on this canvas, and wait for them.
    Object.assign(window, {
      covey: {
        bench: (n: number) => ({
          draw: () => {
            const rects = benchRects(n);
            const rows = new Int32Array(64).map((_, i) => i);
            const area = { from: 0, to: 100, left: LEFT, top: 2, width: 900, height: 300 };
            drawRects(context, rects, rows, 64, area, { error: "#000000", errorEdge: "#ff0000", moved: "#8888ff" });
            context.getImageData(0, 0, 1, 1);
          },
        }),
      },
    });
    paint();
    return () => {
      alive = false;
      clearTimeout(frame);
    };
  }, []);

  const at = (event: MouseEvent) => {
    const box = canvas.current!.getBoundingClientRect();
    const v = view.current;
    const width = box.width - LEFT - 4;
    const x = event.clientX - box.left;
    const time = v.to - v.span + ((x - LEFT) / width) * v.span;
    return { x, y: event.clientY - box.top, time, width, height: box.height };
  };

  const change = (span: number, to: number, keep = false) => {
    const v = view.current;
    v.span = Math.max(0.002, Math.min(24 * 3600, span));
    v.to = to;
    v.follow = keep && v.follow;
    if (v.to >= store.clock) v.follow = true;
    setFollow(v.follow);
  };

  useEffect(() => {
    const element = canvas.current!;
    const wheel = (event: WheelEvent) => {
      event.preventDefault();
      const v = view.current;
      const place = at(event);
      if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        change(v.span, v.to + ((event.deltaX || event.deltaY) / place.width) * v.span);
        return;
      }
      const factor = Math.exp(event.deltaY * 0.0015);
      if (v.follow) change(v.span * factor, v.to, true);
      else change(v.span * factor, place.time + (v.to - place.time) * factor);
    };
    element.addEventListener("wheel", wheel, { passive: false });
    return () => element.removeEventListener("wheel", wheel);
  }, []);

  const down = (event: MouseEvent) => {
    const begin = at(event);
    const { to, span } = view.current;
    const inOverview = begin.y > begin.height - OVERVIEW;
    const move = (next: MouseEvent) => {
      const place = at(next);
      if (inOverview) {
        const [from, end] = extent();
        change(span, from + ((place.x - LEFT) / place.width) * (end - from) + span / 2);
      } else if (Math.abs(place.x - begin.x) > 2) {
        change(span, to - ((place.x - begin.x) / begin.width) * span);
      }
    };
    const up = (last: MouseEvent) => {
      window.removeEventListener("mousemove", move);
      window.removeEventListener("mouseup", up);
      if (!inOverview && Math.abs(at(last).x - begin.x) <= 2) open(last);
    };
    if (inOverview) move(event);
    window.addEventListener("mousemove", move);
    window.addEventListener("mouseup", up);
  };

  const under = (event: MouseEvent): { index: number; lane: number } | null => {
    const place = at(event);
    const { rows, count } = arrange();
    const row = laneHeight(count, place.height - AXIS - OVERVIEW - 4);
    const line = Math.floor((place.y - 2) / row);
    const lane = rows.indexOf(line);
    if (place.x < LEFT || lane < 0) return null;
    const slack = (3 / place.width) * view.current.span;
    return { index: rectAt(store.rects, lane, place.time, slack), lane };
  };

  const open = (event: MouseEvent) => {
    const found = under(event);
    if (found && found.index >= 0) {
      const label = store.rects.labels[store.rects.label[found.index]];
      location.hash = `#/tasks/${encodeURIComponent(`${label}-${store.rects.task[found.index]}`)}`;
    }
  };

  const hover = (event: MouseEvent) => {
    const found = under(event);
    const place = at(event);
    if (!found) return setTip(null);
    const rects = store.rects;
    const { worker, slot } = rects.lanes[found.lane];
    if (found.index < 0) {
      const bar = running().find((b) => b.lane === found.lane && place.time >= b.start);
      if (!bar) return setTip(null);
      const lines = [`${bar.label}-${bar.task}`, `running for ${format.seconds(store.clock - bar.start)}`, `${worker}, slot ${slot}`];
      return setTip({ x: place.x, y: place.y, lines, label: bar.label });
    }
    const at_ = found.index;
    const label = rects.labels[rects.label[at_]];
    const n = rects.tasks[at_];
    const length = rects.stop[at_] - rects.start[at_];
    const key = `${label}-${rects.task[at_]}`;
    const how = rects.how[at_];
    setTip({
      x: place.x,
      y: place.y,
      label,
      lines: [
        how === 2 ? `copied from ${label}` : n > 1 ? `${key} and ${n - 1} after it` : key,
        n > 1 && how !== 2 ? `${format.seconds(length)}, ${format.seconds(length / n)} each` : format.seconds(length),
        `${format.bytes(rects.bytes[at_])} ${how === 1 ? "· failed" : ""}`,
        slot < 0 ? worker : `${worker}, slot ${slot}`,
      ],
    });
  };

  const keys = (event: KeyboardEvent) => {
    const v = view.current;
    const moves: Record<string, () => void> = {
      ArrowLeft: () => change(v.span, v.to - v.span / 8),
      ArrowRight: () => change(v.span, v.to + v.span / 8),
      "+": () => change(v.span / 1.5, v.follow ? v.to : v.to - v.span / 6, true),
      "-": () => change(v.span * 1.5, v.follow ? v.to : v.to + v.span / 4, true),
      f: () => change(v.span, Number.MAX_SAFE_INTEGER),
      a: fit,
    };
    const act = moves[event.key];
    if (act) {
      event.preventDefault();
      act();
    }
  };

  const fit = () => {
    const [from, to] = extent();
    change(Math.max(0.05, (to - from) * 1.02), to);
  };

  useEffect(() => {
    if (store.link === "replay") fit();
  }, [store.link === "replay"]);

  return (
    <div class={`stream ${tall ? "tall" : ""}`} style={{ height: `${height}px` }}>
      <div class="stream-tools">
        <button type="button" class={follow ? "on" : ""} aria-pressed={follow} title="Follow the present (f)" onClick={() => change(view.current.span, Number.MAX_SAFE_INTEGER)}>
          follow
        </button>
        <button type="button" title="Show all (a)" onClick={fit}>
          all
        </button>
        <button type="button" title="Zoom in (+)" aria-label="zoom in" onClick={() => change(view.current.span / 1.5, view.current.to, true)}>
          +
        </button>
        <button type="button" title="Zoom out (-)" aria-label="zoom out" onClick={() => change(view.current.span * 1.5, view.current.to, true)}>
          −
        </button>
      </div>
      <canvas
        ref={canvas}
        data-testid="stream"
        tabIndex={0}
        role="img"
        aria-label={`task stream: ${format.count(store.rects.total)} stretches of tasks on ${store.rects.lanes.length} lanes; arrow keys move, plus and minus zoom, f follows`}
        onMouseDown={down}
        onMouseMove={hover}
        onMouseLeave={() => setTip(null)}
        onKeyDown={keys}
      />
      {tip && (
        <div class="tip" style={{ left: `${Math.min(tip.x + 14, (canvas.current?.clientWidth ?? 600) - 260)}px`, top: `${tip.y + 14}px` }}>
          <span class="swatch" style={{ background: colorOf(tip.label) }} />
          <b>{tip.lines[0]}</b>
          {tip.lines.slice(1).map((line) => (
            <div key={line}>{line}</div>
          ))}
        </div>
      )}
    </div>
  );
}

let made: Rects | null = null;

function benchRects(n: number): Rects {
  if (made?.total === n) return made;
  made = new Rects();
  for (let i = 0; i < n; i++) {
    const start = (i / n) * 100;
    made.add([[`w${i % 32}`, (i >> 5) % 2, start, start + 0.05, `f${i % 7}`, 1, i % 500 ? 0 : 1, "0", 1]]);
  }
  return made;
}

function extent(): [number, number] {
  const rects = store.rects;
  if (!rects.size) return [store.now - 30, store.now];
  const oldest = rects.start[(rects.total - rects.size) % rects.start.length];
  const newest = rects.stop[(rects.total - 1) % rects.stop.length];
  return [oldest, store.link === "replay" ? newest : Math.max(newest, store.clock)];
}

/** A strip of the whole time, with what is shown marked. */
function overview(c: CanvasRenderingContext2D, width: number, tallness: number, now: number, v: { span: number; to: number }, area: View) {
  const [from, to] = extent();
  const top = tallness - OVERVIEW + 4;
  const high = OVERVIEW - 6;
  c.fillStyle = themeColor("lane");
  c.fillRect(area.left, top, area.width, high);
  const points = store.points;
  let most = 0;
  for (const point of points) most = Math.max(most, point[2]);
  c.fillStyle = themeColor("accent-soft");
  const scale = area.width / Math.max(0.001, to - from);
  for (let i = 1; i < points.length; i++) {
    const x0 = (points[i - 1][0] - from) * scale;
    const x1 = (points[i][0] - from) * scale;
    if (x1 < 0 || x0 > area.width) continue;
    const tall = most ? (points[i][2] / most) * high : 0;
    c.fillRect(area.left + Math.max(0, x0), top + high - tall, Math.min(area.width, x1) - Math.max(0, x0) + 0.5, tall);
  }
  const x0 = Math.max(0, (v.to - v.span - from) * scale);
  const x1 = Math.min(area.width, (Math.min(v.to, now) - from) * scale);
  c.strokeStyle = themeColor("accent");
  c.lineWidth = 1.5;
  c.strokeRect(area.left + x0, top, Math.max(3, x1 - x0), high);
  void width;
}

function clip(text: string, most: number): string {
  return text.length > most ? `…${text.slice(-most + 1)}` : text;
}
