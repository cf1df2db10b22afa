/** What the server sends; the shapes of dashboard/tables.py and model.py. */

export type Running = [slot: number, task: string, label: string, seconds: number];

export interface FunctionLine {
  label: string;
  submitted: number;
  done: number;
  failed: number;
  retried: number;
  lost: number;
  running: number;
  pending: number;
  bytes: number;
  mean: number;
  p95: number;
  longest: number;
  total: number;
  first: number;
  last: number;
}

export interface Memory {
  limit?: number;
  heap?: number;
  small?: number;
  shared?: number;
  spilled?: number;
  warm?: number;
  in_flight?: number;
  unmanaged?: number;
  total?: number;
}

export interface WorkerLine {
  name: string;
  slots: number;
  host: string;
  resources: Record<string, number>;
  limit: number;
  joined: number;
  left: number | null;
  cpu: number;
  lag: number;
  memory: Memory;
  queued: number;
  paused: boolean;
  running: Running[];
  pid: number;
  runners: number[];
  sampled: number;
  busy: number;
  last: number;
  done: number;
  failed: number;
  sent: number;
  received: number;
}

export interface ErrorLine {
  id: string;
  label: string;
  kind: string;
  type: string;
  message: string;
  count: number;
  first: number;
  last: number;
  workers: Record<string, number>;
  tasks: string[];
}

export interface Suspect {
  level: number;
  text: string;
  advice: string;
  link: string;
}

export interface Totals {
  workers: number;
  lost: number;
  slots: number;
  running: number;
  ready: number;
  pending: number;
  done: number;
  failed: number;
  retried: number;
  rate: number;
  eta: number | null;
  cpu: number;
  heap: number;
  shared: number;
  spilled: number;
  limit: number;
  moved: number;
  lag: number;
  scheduler_cpu: number;
  scheduler_rss: number;
  known: number;
  recomputed: number;
  events: number;
  clients: string[];
  dashboard_rss: number;
}

/** worker, slot (-1 is a transfer), start, stop, label, tasks, how, task, bytes */
export type Rect = [string, number, number, number, string, number, number, string, number];
/** at, key, worker, stream, text, lines left out */
export type Log = [number, string, string, string, string, number];
/** at, tasks/s, cpu share, heap, shared, spilled, bytes/s, lag, scheduler cpu, ready */
export type Point = number[];
export type Pair = [source: string, target: string, bytes: number, count: number, seconds: number];
/** at, what, worker, more words */
export type Happening = [number, string, string, string];

export interface Frame {
  cursor: string;
  fresh: boolean;
  status: "live" | "reconnecting" | "replay";
  problem?: string;
  answers?: Record<string, unknown>;
  cluster: string;
  now: number;
  wall: number;
  dropped: number;
  totals: Totals;
  suspects: Suspect[];
  functions: FunctionLine[];
  workers: WorkerLine[];
  errors: ErrorLine[];
  pairs: Pair[];
  rects: Rect[];
  logs: Log[];
  points: Point[];
  history: Happening[];
}
