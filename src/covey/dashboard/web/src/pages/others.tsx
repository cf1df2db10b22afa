import { useEffect, useState } from "preact/hooks";
import { colorOf } from "../colors";
import * as format from "../format";
import { Bar, Key, Panel, Swatch, Table, ago, memoryParts } from "../parts";
import { Plot } from "../plot";
import { ask, store } from "../store";
import type { FunctionLine, Pair, WorkerLine } from "../types";
import { Suspects, Workers } from "./home";
import { Traceback } from "./tasks";

export function Errors() {
  const lines = [...store.errors.values()].sort((a, b) => b.last - a.last);
  return (
    <div class="page">
      <Panel title="Errors by cause" extra={<span class="count">{lines.length || ""}</span>}>
        {lines.map((line) => (
          <article class="error" key={line.id} data-testid="error">
            <h3>
              <Swatch label={line.label} /> {line.type} <small>in {line.label}</small> <b>× {format.count(line.count)}</b>
            </h3>
            <pre>{line.message}</pre>
            <p>
              first {ago(line.first)}, last {ago(line.last)}
              {Object.keys(line.workers).length > 0 && ` · on ${Object.entries(line.workers).map(([name, n]) => `${name} (${n})`).join(", ")}`}
            </p>
            {line.tasks.length > 0 && store.link !== "replay" && <Traceback name={line.tasks[line.tasks.length - 1]} />}
            <p class="keys">
              {line.tasks.slice(-8).map((key) => (
                <Key key={key} name={key} />
              ))}
            </p>
          </article>
        ))}
        {!lines.length && <p class="empty fine">No task has failed.</p>}
      </Panel>
    </div>
  );
}

export function WorkersPage() {
  return (
    <div class="page">
      <Panel title="Workers" extra={<span class="count">{format.count(store.workers.size)}</span>}>
        <Workers height={660} />
      </Panel>
      <Panel title="Came and went">
        <ul class="plain">
          {[...store.history].reverse().slice(0, 30).map(([at, what, worker]) => (
            <li key={`${at}${worker}`}>
              <time>{format.timeOfDay(at, store.now, store.wall)}</time> {worker} <span class={what === "left" ? "state failed" : "state done"}>{what}</span>
            </li>
          ))}
        </ul>
        {!store.history.length && <p class="empty">Nobody, since this page looks on.</p>}
      </Panel>
    </div>
  );
}

export function MemoryPage() {
  const workers = [...store.workers.values()].filter((worker) => worker.left === null);
  const functions = [...store.functions.values()];
  const sum: Record<string, number> = {};
  for (const worker of workers) {
    for (const part of memoryParts(worker.memory)) sum[part.name] = (sum[part.name] ?? 0) + part.value;
  }
  return (
    <div class="page two">
      <div>
        <Panel title="Memory of all workers">
          <Plot
            title="memory"
            height={220}
            format={format.bytes}
            curves={[
              { at: 3, name: "heap", color: "mem-unmanaged", fill: true },
              { at: 4, name: "shared", color: "mem-shared", fill: true },
              { at: 5, name: "on disk", color: "bad" },
            ]}
          />
          <p class="legend">
            {memoryParts({}).map((part) => (
              <span key={part.name}>
                <i style={{ background: `var(--${part.color})` }} /> {part.name} <b>{format.bytes(sum[part.name] ?? 0)}</b>
              </span>
            ))}
          </p>
        </Panel>
        <Panel title="By worker">
          <Table
            label="memory by worker"
            rows={workers}
            id={(w: WorkerLine) => w.name}
            first={2}
            empty="No worker is there."
            height={420}
            columns={[
              { name: "worker", get: (w) => w.name },
              { name: "of its limit", get: (w) => (w.memory.total ?? 0) / Math.max(1, w.limit), show: (w) => <Bar title={format.bytes(w.memory.total ?? 0)} total={w.memory.limit ?? w.limit} parts={memoryParts(w.memory)} />, wide: true },
              { name: "total", get: (w) => w.memory.total ?? 0, show: (w) => format.bytes(w.memory.total ?? 0), right: true },
              { name: "heap", get: (w) => w.memory.heap ?? 0, show: (w) => format.bytes(w.memory.heap ?? 0), right: true },
              { name: "shared", get: (w) => w.memory.shared ?? 0, show: (w) => format.bytes(w.memory.shared ?? 0), right: true },
              { name: "on disk", get: (w) => w.memory.spilled ?? 0, show: (w) => format.bytes(w.memory.spilled ?? 0), right: true },
              { name: "limit", get: (w) => w.limit, show: (w) => format.bytes(w.memory.limit ?? w.limit), right: true },
            ]}
          />
        </Panel>
      </div>
      <Panel title="Results made, by function">
        <Table
          label="bytes by function"
          rows={functions}
          id={(f: FunctionLine) => f.label}
          first={1}
          empty="Nothing has run."
          columns={[
            { name: "function", get: (f) => f.label, show: (f) => (<><Swatch label={f.label} /> {f.label}</>) },
            { name: "bytes", get: (f) => f.bytes, show: (f) => format.bytes(f.bytes), right: true },
            { name: "each", get: (f) => (f.done ? f.bytes / f.done : 0), show: (f) => format.bytes(f.done ? f.bytes / f.done : 0), right: true },
          ]}
        />
      </Panel>
    </div>
  );
}

const MATRIX = 40;

export function Network() {
  const pairs = [...store.pairs.values()];
  const names = [...new Set(pairs.flatMap((pair) => [pair[0], pair[1]]))].sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
  const most = Math.max(1, ...pairs.map((pair) => pair[2]));
  return (
    <div class="page two">
      <Panel title="From worker (rows) to worker (columns)">
        {names.length > 0 && names.length <= MATRIX ? (
          <div class="matrix-box">
            <table class="matrix" aria-label="bytes between workers">
              <thead>
                <tr>
                  <th />
                  {names.map((name) => (
                    <th key={name} title={name}>
                      {name}
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {names.map((source) => (
                  <tr key={source}>
                    <th>{source}</th>
                    {names.map((target) => {
                      const pair = store.pairs.get(`${source}\n${target}`);
                      const share = pair ? Math.sqrt(pair[2] / most) : 0;
                      return (
                        <td key={target} style={{ background: share ? `color-mix(in srgb, var(--accent) ${Math.round(12 + 78 * share)}%, transparent)` : undefined }} title={pair ? `${format.bytes(pair[2])} in ${format.count(pair[3])} copies` : "nothing"}>
                          {pair ? format.bytes(pair[2]) : ""}
                        </td>
                      );
                    })}
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        ) : (
          <p class="empty">{names.length ? "Too many workers for a matrix: see the pairs." : "Nothing was moved between workers."}</p>
        )}
        <Plot title="moved" height={200} format={(v) => `${format.bytes(v)}/s`} curves={[{ at: 6, name: "between workers", color: "moved", fill: true }]} />
      </Panel>
      <Panel title="Pairs">
        <Table
          label="transfers"
          rows={pairs}
          id={(p: Pair) => `${p[0]} ${p[1]}`}
          first={2}
          empty="None."
          columns={[
            { name: "from", get: (p) => p[0] },
            { name: "to", get: (p) => p[1] },
            { name: "bytes", get: (p) => p[2], show: (p) => format.bytes(p[2]), right: true },
            { name: "copies", get: (p) => p[3], show: (p) => format.count(p[3]), right: true },
            { name: "rate", get: (p) => (p[4] ? p[2] / p[4] : 0), show: (p) => (p[4] ? `${format.bytes(p[2] / p[4])}/s` : ""), right: true },
          ]}
        />
      </Panel>
    </div>
  );
}

interface Group {
  label: string;
  states: Record<string, number>;
}
interface Node {
  key: string;
  label: string;
  state: string;
  n: number;
  needs: string[];
}
interface GraphAnswer {
  groups: Group[];
  edges: [string, string, number][];
  nodes: Node[];
  total: number;
  looked: number;
}

/** Layers by the longest way from an input; within a layer as near to inputs as may be. */
export function layout(ids: string[], needs: Map<string, string[]>): Map<string, [number, number]> {
  const depth = new Map<string, number>();
  const visit = (id: string, path: Set<string>): number => {
    const known = depth.get(id);
    if (known !== undefined) return known;
    if (path.has(id)) return 0;
    path.add(id);
    let deep = 0;
    for (const need of needs.get(id) ?? []) deep = Math.max(deep, visit(need, path) + 1);
    path.delete(id);
    depth.set(id, deep);
    return deep;
  };
  const layers: string[][] = [];
  for (const id of ids) (layers[visit(id, new Set())] ??= []).push(id);
  const places = new Map<string, [number, number]>();
  layers.forEach((layer, column) => {
    const middle = (id: string) => {
      const found = (needs.get(id) ?? []).map((need) => places.get(need)?.[1]).filter((y) => y !== undefined);
      return found.length ? found.reduce((a, b) => a + b, 0) / found.length : Number.MAX_VALUE;
    };
    const order = column ? [...layer].sort((a, b) => middle(a) - middle(b)) : layer;
    order.forEach((id, row) => places.set(id, [column, row - (order.length - 1) / 2]));
  });
  return places;
}

export function Graph() {
  const [answer, setAnswer] = useState<GraphAnswer | null>(null);
  const [problem, setProblem] = useState("");
  const [tasks, setTasks] = useState(false);
  const frames = Math.floor(store.frames / 10);
  useEffect(() => {
    ask<GraphAnswer>("api/graph").then(setAnswer, (error: Error) => setProblem(error.message));
  }, [frames]);
  if (problem) return <p class="problem page">{problem}</p>;
  if (!answer) return <p class="empty page">asking the scheduler …</p>;
  const showTasks = tasks && answer.nodes.length > 0;
  return (
    <div class="page">
      <Panel
        title={showTasks ? "Tasks and what they need" : "Functions and what they need"}
        extra={
          <span>
            <small>
              {format.count(answer.looked)} of {format.count(answer.total)} stretches of tasks{" "}
            </small>
            <button type="button" aria-pressed={showTasks} disabled={!answer.nodes.length} title={answer.nodes.length ? "" : "too many tasks to draw each"} onClick={() => setTasks(!tasks)}>
              {showTasks ? "groups" : "tasks"}
            </button>
          </span>
        }
      >
        {answer.groups.length ? showTasks ? <TaskGraph nodes={answer.nodes} /> : <GroupGraph answer={answer} /> : <p class="empty">The scheduler knows of no task: all were let go.</p>}
      </Panel>
    </div>
  );
}

function GroupGraph({ answer }: { answer: GraphAnswer }) {
  const needs = new Map<string, string[]>();
  for (const [from, to] of answer.edges) {
    if (from !== to) needs.set(to, [...(needs.get(to) ?? []), from]);
  }
  const places = layout(answer.groups.map((group) => group.label), needs);
  const spot = (label: string) => {
    const [column, row] = places.get(label) ?? [0, 0];
    return [column * 250, row * 74];
  };
  const all = [...places.values()];
  const top = Math.min(...all.map(([, row]) => row)) * 74 - 40;
  const bottom = Math.max(...all.map(([, row]) => row)) * 74 + 44;
  const right = Math.max(...all.map(([column]) => column)) * 250 + 220;
  return (
    <svg class="graph" viewBox={`-10 ${top} ${right} ${bottom - top}`} style={{ height: `${Math.min(680, Math.max(160, bottom - top))}px` }} role="img" aria-label={`graph of ${answer.groups.length} functions`}>
      {answer.edges.map(([from, to, n]) => {
        const [x0, y0] = spot(from);
        const [x1, y1] = spot(to);
        if (from === to) return null;
        return <path key={`${from}${to}`} d={`M${x0 + 190} ${y0} C${x0 + 225} ${y0} ${x1 - 35} ${y1} ${x1} ${y1}`} class="edge" style={{ strokeWidth: `${Math.min(5, 1 + Math.log10(n))}px` }} />;
      })}
      {answer.groups.map((group) => {
        const [x, y] = spot(group.label);
        const total = Object.values(group.states).reduce((a, b) => a + b, 0);
        const done = (group.states.done ?? 0) / total;
        const failed = (group.states.failed ?? 0) / total;
        return (
          <g key={group.label} transform={`translate(${x} ${y - 26})`}>
            <title>{Object.entries(group.states).map(([state, n]) => `${n} ${state}`).join(", ")}</title>
            <rect width="190" height="52" rx="8" class="node" />
            <rect width="6" height="52" rx="3" style={{ fill: colorOf(group.label) }} />
            <text x="16" y="20" class="name">{group.label.length > 24 ? `${group.label.slice(0, 23)}…` : group.label}</text>
            <text x="16" y="37" class="note">{format.count(total)} tasks, {format.percent(done)} in memory</text>
            <rect x="16" y="43" width="160" height="3" class="rail" />
            <rect x="16" y="43" width={160 * done} height="3" style={{ fill: "var(--good)" }} />
            <rect x={16 + 160 * done} y="43" width={160 * failed} height="3" style={{ fill: "var(--bad)" }} />
          </g>
        );
      })}
    </svg>
  );
}

const STATE_COLORS: Record<string, string> = { waiting: "faint", ready: "accent", assigned: "busy", done: "good", failed: "bad", released: "line" };

function TaskGraph({ nodes }: { nodes: Node[] }) {
  const needs = new Map(nodes.map((node) => [node.key, node.needs]));
  const places = layout(nodes.map((node) => node.key), needs);
  const all = [...places.values()];
  const high = Math.max(1, ...all.map(([, row]) => Math.abs(row)));
  const wide = Math.max(1, ...all.map(([column]) => column));
  const dx = Math.max(26, Math.min(120, 1300 / (wide + 1)));
  const dy = Math.max(4, Math.min(26, 320 / high));
  const spot = (key: string) => {
    const [column, row] = places.get(key) ?? [0, 0];
    return [column * dx, row * dy];
  };
  return (
    <svg class="graph" viewBox={`-20 ${-high * dy - 20} ${wide * dx + 40} ${2 * high * dy + 40}`} style={{ height: "680px" }} role="img" aria-label={`graph of ${nodes.length} tasks`}>
      {nodes.flatMap((node) =>
        node.needs.map((need) => {
          const [x0, y0] = spot(need);
          const [x1, y1] = spot(node.key);
          return <path key={`${need}${node.key}`} d={`M${x0} ${y0} C${x0 + dx / 2} ${y0} ${x1 - dx / 2} ${y1} ${x1} ${y1}`} class="edge thin" />;
        }),
      )}
      {nodes.map((node) => {
        const [x, y] = spot(node.key);
        return (
          <a key={node.key} href={`#/tasks/${encodeURIComponent(node.key)}`} aria-label={`${node.key}, ${node.state}`}>
            <circle cx={x} cy={y} r={Math.min(7, dy / 2.2)} style={{ fill: colorOf(node.label), stroke: `var(--${STATE_COLORS[node.state] ?? "line"})` }} class="task-node">
              <title>{`${node.key}: ${node.state}`}</title>
            </circle>
          </a>
        );
      })}
    </svg>
  );
}

export function System() {
  const t = store.totals;
  return (
    <div class="page two">
      <Panel title="The scheduler">
        <Plot title="processor of the scheduler" height={150} format={format.percent} curves={[{ at: 8, name: "cpu", color: "accent", fill: true }]} />
        <Plot title="how late its loop is" height={150} format={format.seconds} curves={[{ at: 7, name: "late", color: "busy", fill: true }]} />
        <Plot title="tasks that wait for a slot" height={150} format={format.short} curves={[{ at: 9, name: "ready", color: "moved", fill: true }]} />
      </Panel>
      <div>
        <Suspects limit={12} />
        <Panel title="Facts">
          {t && (
            <dl>
              <dt>cluster</dt>
              <dd class="mono">{store.cluster}</dd>
              <dt>memory of the scheduler</dt>
              <dd>{format.bytes(t.scheduler_rss)}</dd>
              <dt>stretches of tasks it knows</dt>
              <dd>{format.count(t.known)}</dd>
              <dt>tasks computed again</dt>
              <dd>{format.count(t.recomputed)}</dd>
              <dt>events so far</dt>
              <dd>{format.count(t.events)}</dd>
              <dt>events that this page has missed</dt>
              <dd data-testid="dropped">{format.count(store.dropped)}</dd>
              <dt>clients</dt>
              <dd>{t.clients.join(", ")}</dd>
            </dl>
          )}
          <p>
            <a href="api/trace">trace for Perfetto</a> · <a href="metrics">metrics for Prometheus</a>
          </p>
        </Panel>
      </div>
    </div>
  );
}
