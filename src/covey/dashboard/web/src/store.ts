/**
 * What the page knows, and the connection it comes by.
 *
 * A frame holds what has changed since the cursor that was sent.  After a break the page
 * asks with its last cursor and gets what it missed.  Where no WebSocket gets through, it
 * polls.  Whatever happens, `link` says how fresh the page is.
 */

import { Rects } from "./rects";
import type { ErrorLine, Frame, FunctionLine, Happening, Log, Pair, Point, Suspect, Totals, WorkerLine } from "./types";

const LOGS_MAX = 5_000;
const POINTS_MAX = 1_800;
/** While somebody looks on, the scheduler says something twice a second. */
const STALE_MS = 3_000;
const STALE_HIDDEN_MS = 8_000;

export type Link = "live" | "lagging" | "reconnecting" | "replay" | "connecting" | "refused";

class Store {
  functions = new Map<string, FunctionLine>();
  workers = new Map<string, WorkerLine>();
  errors = new Map<string, ErrorLine>();
  pairs = new Map<string, Pair>();
  rects = new Rects();
  logs: Log[] = [];
  points: Point[] = [];
  history: Happening[] = [];
  suspects: Suspect[] = [];
  totals: Totals | null = null;
  link: Link = "connecting";
  problem = "";
  cluster = "";
  dropped = 0;
  /** The scheduler's clock and the time of day at the last frame, and when it came. */
  now = 0;
  wall = 0;
  came = performance.now();
  frames = 0;
  /** In a report: the answers that are in it, by address. */
  kept: Record<string, unknown> | null = null;
  private cursor = "";
  private polling = false;
  private failures = 0;
  private readonly listeners = new Set<() => void>();

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  private tell(): void {
    for (const listener of this.listeners) listener();
  }

  /** The scheduler's clock right now, as well as the page can know. */
  get clock(): number {
    if (this.link === "replay") return this.now;
    return this.now + Math.min(5, (performance.now() - this.came) / 1000);
  }

  start(): void {
    const recording = document.getElementById("recording");
    if (recording?.textContent) {
      const frame = JSON.parse(recording.textContent) as Frame;
      this.kept = frame.answers ?? {};
      this.take(frame);
      return;
    }
    this.connect();
    setInterval(() => this.watch(), 1_000);
  }

  take(frame: Frame): void {
    if (frame.fresh) this.forget();
    this.frames += 1;
    this.cursor = frame.cursor;
    this.now = frame.now;
    this.wall = frame.wall;
    this.came = performance.now();
    this.cluster = frame.cluster;
    this.dropped = frame.dropped;
    this.totals = frame.totals;
    this.suspects = frame.suspects;
    this.problem = frame.problem ?? "";
    this.link = frame.status;
    for (const line of frame.functions) this.functions.set(line.label, line);
    for (const line of frame.workers) this.workers.set(line.name, line);
    for (const line of frame.errors) this.errors.set(line.id, line);
    for (const pair of frame.pairs) this.pairs.set(`${pair[0]}\n${pair[1]}`, pair);
    this.rects.add(frame.rects);
    this.logs = [...this.logs, ...frame.logs].slice(-LOGS_MAX);
    this.points = [...this.points, ...frame.points].slice(-POINTS_MAX);
    this.history = [...this.history, ...frame.history].slice(-200);
    this.tell();
  }

  private forget(): void {
    this.functions.clear();
    this.workers.clear();
    this.errors.clear();
    this.pairs.clear();
    this.rects.clear();
    this.logs = [];
    this.points = [];
    this.history = [];
  }

  private connect(): void {
    const address = new URL("api/stream", document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address);
    let opened = false;
    socket.onopen = () => {
      opened = true;
      this.failures = 0;
      socket.send(this.cursor);
    };
    socket.onmessage = (event) => {
      this.take(JSON.parse(event.data as string) as Frame);
      // A hidden page asks less often; what it missed comes in one frame.
      setTimeout(() => socket.readyState === 1 && socket.send(this.cursor), document.hidden ? 2_000 : 0);
    };
    socket.onclose = () => {
      this.link = "reconnecting";
      this.tell();
      this.failures += 1;
      // Some proxies let no WebSocket through: then poll.  It also tells who may not.
      if (!opened && this.failures >= 3) void this.poll();
      else setTimeout(() => this.connect(), Math.min(5_000, 300 * this.failures));
    };
  }

  private async poll(): Promise<void> {
    if (this.polling) return;
    this.polling = true;
    let failures = 0;
    while (failures < 3) {
      try {
        const answer = await fetch(`api/frame?since=${encodeURIComponent(this.cursor)}`);
        if (answer.status === 401) {
          this.link = "refused";
          this.tell();
          return;
        }
        this.take((await answer.json()) as Frame);
        failures = 0;
      } catch {
        failures += 1;
        this.link = "reconnecting";
        this.tell();
        await new Promise((resolve) => setTimeout(resolve, 1_000));
      }
    }
    this.polling = false;
    this.failures = 0;
    this.connect();
  }

  /** How old what the page shows is. */
  get lateSeconds(): number {
    return (performance.now() - this.came) / 1000;
  }

  private watch(): void {
    if (this.link !== "live" && this.link !== "lagging") return;
    if (performance.now() - this.came > (document.hidden ? STALE_HIDDEN_MS : STALE_MS)) {
      this.link = "lagging";
      this.tell();
    }
  }
}

export const store = new Store();

/** In a report: what was asked while there was somebody to ask. */
function kept(answers: Record<string, unknown>, path: string): unknown {
  const [name, query = ""] = path.split("?");
  if (name === "api/search" && name in answers) {
    const text = new URLSearchParams(query).get("q") ?? "";
    const rows = answers[name] as { key: string; worker: string }[];
    return rows.filter((row) => row.key.includes(text) || row.worker.includes(text)).slice(0, 200);
  }
  const answer = answers[path] ?? answers[name];
  if (answer === undefined) throw new Error("This file does not have that: it was kept of a cluster that cannot be asked any more.");
  return answer;
}

export async function ask<T>(path: string): Promise<T> {
  if (store.kept) return kept(store.kept, path) as T;
  const answer = await fetch(path);
  const body = (await answer.json()) as T & { error?: string };
  if (!answer.ok) throw new Error(body.error ?? answer.statusText);
  return body;
}

export async function act(path: string, key: string): Promise<void> {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-covey": "act" },
    body: JSON.stringify({ key }),
  });
  if (!answer.ok) {
    const body = (await answer.json().catch(() => ({}))) as { error?: string };
    throw new Error(body.error ?? answer.statusText);
  }
}
