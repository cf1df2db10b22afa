import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useAnswer } from "../asking";
import { colorOf, themeColor } from "../colors";
import * as format from "../format";
import { layout } from "../layout";
import { AsOf, Bar, Key, Panel, Swatch, Table } from "../parts";
import { useParam } from "../place";

interface Group {
  label: string;
  states: Record<string, number>;
}
interface Node {
  key: string;
  label: string;
  state: string;
  n: number;
  /** Where its inputs are in the list of nodes. */
  needs: number[];
  seconds: number;
}
interface Step {
  at: number;
  key: string;
  label: string;
  state: string;
  seconds: number;
  how: string;
}
interface GraphAnswer {
  groups: Group[];
  edges: [string, string, number][];
  nodes: Node[];
  path: Step[];
  path_seconds: number;
  total: number;
  looked: number;
  inputs_left_out: number;
  as_of?: number;
}

export function Graph() {
  const [answer, problem] = useAnswer<GraphAnswer>("api/graph");
  const [view, setView] = useParam("show", "functions");
  if (problem) return <p class="problem page">{problem}</p>;
  if (!answer) return <p class="empty page">asking the scheduler …</p>;
  const showTasks = view === "tasks" && answer.nodes.length > 0;
  const few = answer.looked < answer.total || answer.inputs_left_out > 0;
  return (
    <div class="page">
      <Panel
        title={showTasks ? "Tasks and what they need" : "Functions and what they need"}
        extra={
          <span class="tools">
            <AsOf at={answer.as_of} />
            <small>
              {few ? `${format.count(answer.looked)} of ${format.count(answer.total)} stretches of tasks` : `${format.count(answer.total)} ${answer.total === 1 ? "stretch" : "stretches"} of tasks`}
            </small>
            <button type="button" aria-pressed={showTasks} disabled={!answer.nodes.length} title={answer.nodes.length ? "" : "too many tasks to draw each"} onClick={() => setView(showTasks ? "functions" : "tasks")}>
              {showTasks ? "functions" : "tasks"}
            </button>
          </span>
        }
      >
        {answer.groups.length ? showTasks ? <TaskGraph answer={answer} /> : <GroupGraph answer={answer} /> : <p class="empty">The scheduler knows of no task: all were let go.</p>}
      </Panel>
      {answer.path.length > 0 && <CriticalPath answer={answer} />}
    </div>
  );
}

/** The longest chain: however many workers there are, it takes that long. */
function CriticalPath({ answer }: { answer: GraphAnswer }) {
  const { path } = answer;
  const sums = new Map<string, { seconds: number; n: number }>();
  for (const step of path) {
    const line = sums.get(step.label) ?? { seconds: 0, n: 0 };
    line.seconds += step.seconds;
    line.n += 1;
    sums.set(step.label, line);
  }
  const groups = [...sums].sort((a, b) => b[1].seconds - a[1].seconds);
  const rows = path.map((step, index) => ({ ...step, index: index + 1 }));
  return (
    <Panel title="Critical path" extra={<span class="count">{format.count(path.length)} {path.length === 1 ? "task" : "tasks"}, {format.seconds(answer.path_seconds)}</span>}>
      <p class="lead" data-testid="critical">
        The longest chain of tasks that need each other takes <b>{format.seconds(answer.path_seconds)}</b>: no number of workers makes the run shorter.
        {groups.length > 0 && answer.path_seconds > 0 && (
          <>
            {" "}
            Most of it is <Swatch label={groups[0][0]} /> {groups[0][0]}, {format.percent(groups[0][1].seconds / answer.path_seconds)}.
          </>
        )}
      </p>
      <div class="functions-of-path">
        {groups.slice(0, 8).map(([label, line]) => (
          <div key={label}>
            <span>
              <Swatch label={label} /> {label} <small>× {line.n}</small>
            </span>
            <Bar title={`${label}: ${format.seconds(line.seconds)}`} total={answer.path_seconds} parts={[{ name: label, value: line.seconds, color: "accent" }]} />
            <small>{format.seconds(line.seconds)}</small>
          </div>
        ))}
      </div>
      <Table
        label="critical path"
        rows={rows}
        id={(row) => row.key}
        first={0}
        down={false}
        height={300}
        empty=""
        columns={[
          { name: "step", get: (row) => row.index, right: true },
          { name: "task", get: (row) => row.key, show: (row) => (<><Swatch label={row.label} /> <Key name={row.key} /></>) },
          { name: "state", get: (row) => row.state, show: (row) => <span class={`state ${row.state}`}>{row.state}</span> },
          { name: "takes", get: (row) => row.seconds, show: (row) => format.seconds(row.seconds), right: true },
          { name: "as known from", get: (row) => row.how },
        ]}
      />
    </Panel>
  );
}

function GroupGraph({ answer }: { answer: GraphAnswer }) {
  const critical = new Set<string>();
  answer.path.forEach((step, at) => at && critical.add(`${answer.path[at - 1].label}\n${step.label}`));
  const onPath = new Set(answer.path.map((step) => step.label));
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
        return <path key={`${from}${to}`} d={`M${x0 + 190} ${y0} C${x0 + 225} ${y0} ${x1 - 35} ${y1} ${x1} ${y1}`} class={`edge ${critical.has(`${from}\n${to}`) ? "critical" : ""}`} style={{ strokeWidth: `${Math.min(5, 1 + Math.log10(n))}px` }} />;
      })}
      {answer.groups.map((group) => {
        const [x, y] = spot(group.label);
        const total = Object.values(group.states).reduce((a, b) => a + b, 0);
        const done = (group.states.done ?? 0) / total;
        const failed = (group.states.failed ?? 0) / total;
        return (
          <g key={group.label} transform={`translate(${x} ${y - 26})`}>
            <title>{Object.entries(group.states).map(([state, n]) => `${n} ${state}`).join(", ")}</title>
            <rect width="190" height="52" rx="8" class={`node ${onPath.has(group.label) ? "critical" : ""}`} />
            <rect width="6" height="52" rx="3" style={{ fill: colorOf(group.label) }} />
            <text x="16" y="20" class="name">{group.label.length > 24 ? `${group.label.slice(0, 23)}…` : group.label}</text>
            <text x="16" y="37" class="note">{format.count(total)} {total === 1 ? "task" : "tasks"}, {format.percent(done)} in memory</text>
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
const HIGH = 620;

/** Every task a dot, its inputs to its left; wheel zooms, drag moves, a click opens. */
function TaskGraph({ answer }: { answer: GraphAnswer }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [view, setView] = useState({ zoom: 1, x: 0, y: 0 });
  const [tip, setTip] = useState<{ x: number; y: number; node: Node } | null>(null);
  const { nodes } = answer;
  const shape = nodes.map((node) => `${node.key}:${node.needs}`).join();
  const spots = useMemo(() => {
    const names = nodes.map((_, at) => String(at));
    const places = layout(names, new Map(nodes.map((node, at) => [String(at), node.needs.map(String)])));
    return names.map((name) => places.get(name) ?? [0, 0]);
  }, [shape]);
  const critical = new Set(answer.path.map((step) => step.at));
  const wide = Math.max(1, ...spots.map(([column]) => column));
  const high = Math.max(1, ...spots.map(([, row]) => Math.abs(row)));
  const place = (at: number, width: number): [number, number] => {
    const [column, row] = spots[at];
    const x = 24 + (column / wide) * (width - 48);
    const y = HIGH / 2 + row * Math.min(30, (HIGH / 2 - 16) / high);
    return [(x - width / 2) * view.zoom + width / 2 + view.x, (y - HIGH / 2) * view.zoom + HIGH / 2 + view.y];
  };
  const radius = Math.max(2, Math.min(8, ((HIGH / 2 - 16) / high) * 0.42, (1200 / (wide + 1)) * 0.4) * Math.sqrt(view.zoom));

  useEffect(() => {
    const element = canvas.current!;
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    const width = element.clientWidth;
    element.width = Math.round(width * ratio);
    element.height = Math.round(HIGH * ratio);
    const c = element.getContext("2d")!;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, width, HIGH);
    const edges = (chosen: boolean) => {
      c.beginPath();
      nodes.forEach((node, at) => {
        for (const need of node.needs) {
          const isOn = critical.has(at) && critical.has(need);
          if (isOn !== chosen) continue;
          const [x0, y0] = place(need, width);
          const [x1, y1] = place(at, width);
          c.moveTo(x0, y0);
          c.bezierCurveTo(x0 + (x1 - x0) / 2, y0, x1 - (x1 - x0) / 2, y1, x1, y1);
        }
      });
      c.stroke();
    };
    c.strokeStyle = themeColor("faint");
    c.globalAlpha = nodes.length > 300 ? 0.18 : 0.35;
    c.lineWidth = 1;
    edges(false);
    c.globalAlpha = 1;
    c.strokeStyle = themeColor("busy");
    c.lineWidth = 2.2;
    edges(true);
    c.lineWidth = Math.max(1, radius / 3.5);
    nodes.forEach((node, at) => {
      const [x, y] = place(at, width);
      c.beginPath();
      c.arc(x, y, radius, 0, 7);
      c.globalAlpha = node.state === "waiting" ? 0.45 : 1;
      c.fillStyle = colorOf(node.label);
      c.fill();
      c.globalAlpha = 1;
      c.strokeStyle = themeColor(STATE_COLORS[node.state] ?? "line");
      c.stroke();
    });
  });

  const under = (event: MouseEvent) => {
    const box = canvas.current!.getBoundingClientRect();
    const [mx, my] = [event.clientX - box.left, event.clientY - box.top];
    let best: { node: Node; off: number } | null = null;
    nodes.forEach((node, at) => {
      const [x, y] = place(at, box.width);
      const off = Math.hypot(x - mx, y - my);
      if (off <= radius + 5 && (!best || off < best.off)) best = { node, off };
    });
    return { x: mx, y: my, node: (best as { node: Node } | null)?.node };
  };
  useEffect(() => {
    const element = canvas.current!;
    const wheel = (event: WheelEvent) => {
      event.preventDefault();
      const box = element.getBoundingClientRect();
      const [mx, my] = [event.clientX - box.left - box.width / 2, event.clientY - box.top - HIGH / 2];
      setView((old) => {
        const zoom = Math.max(1, Math.min(40, old.zoom * Math.exp(-event.deltaY * 0.0015)));
        const by = zoom / old.zoom;
        return { zoom, x: mx - (mx - old.x) * by, y: my - (my - old.y) * by };
      });
    };
    element.addEventListener("wheel", wheel, { passive: false });
    return () => element.removeEventListener("wheel", wheel);
  }, []);
  const down = (event: MouseEvent) => {
    const from = view;
    let moved = false;
    const move = (next: MouseEvent) => {
      const [dx, dy] = [next.clientX - event.clientX, next.clientY - event.clientY];
      moved ||= Math.abs(dx) + Math.abs(dy) > 3;
      if (moved) setView({ ...from, x: from.x + dx, y: from.y + dy });
    };
    const up = (last: MouseEvent) => {
      window.removeEventListener("mousemove", move);
      window.removeEventListener("mouseup", up);
      const { node } = under(last);
      if (!moved && node) location.hash = `#/tasks/${encodeURIComponent(node.key)}`;
    };
    window.addEventListener("mousemove", move);
    window.addEventListener("mouseup", up);
  };
  const keys = (event: KeyboardEvent) => {
    const by: Record<string, Partial<typeof view>> = {
      ArrowLeft: { x: view.x + 60 },
      ArrowRight: { x: view.x - 60 },
      ArrowUp: { y: view.y + 60 },
      ArrowDown: { y: view.y - 60 },
      "+": { zoom: Math.min(40, view.zoom * 1.4) },
      "-": { zoom: Math.max(1, view.zoom / 1.4) },
      a: { zoom: 1, x: 0, y: 0 },
    };
    if (!by[event.key]) return;
    event.preventDefault();
    setView({ ...view, ...by[event.key] });
  };
  const states = new Map<string, number>();
  for (const node of nodes) states.set(node.state, (states.get(node.state) ?? 0) + node.n);
  const words = [...states].map(([state, n]) => `${n} ${state}`).join(", ");
  return (
    <div class="stream" style={{ height: `${HIGH}px` }}>
      <canvas
        ref={canvas}
        data-testid="task-graph"
        tabIndex={0}
        role="img"
        aria-label={`graph of ${nodes.length} stretches of tasks: ${words}; arrow keys move, plus and minus zoom, a shows all; the tasks page lists them`}
        onMouseDown={down}
        onMouseMove={(event) => {
          const found = under(event);
          setTip(found.node ? { x: found.x, y: found.y, node: found.node } : null);
        }}
        onMouseLeave={() => setTip(null)}
        onKeyDown={keys}
      />
      {tip && (
        <div class="tip" style={{ left: `${Math.min(tip.x + 14, (canvas.current?.clientWidth ?? 600) - 260)}px`, top: `${tip.y + 14}px` }}>
          <Swatch label={tip.node.label} /> <b>{tip.node.key}</b>
          {tip.node.n > 1 && <div>and {tip.node.n - 1} after it</div>}
          <div>
            {tip.node.state}, {format.seconds(tip.node.seconds)}
          </div>
        </div>
      )}
    </div>
  );
}
