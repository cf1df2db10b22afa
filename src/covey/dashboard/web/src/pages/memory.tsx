import { useAnswer } from "../asking";
import * as format from "../format";
import { AsOf, Bar, Key, Panel, Swatch, Table, memoryParts } from "../parts";
import { Plot } from "../plot";
import { store } from "../store";
import type { WorkerLine } from "../types";
import { History } from "./workers";

interface Holding {
  label: string;
  n: number;
  bytes: number;
  workers: Record<string, number>;
  wanted: number;
  needed_bytes: number;
}
interface Value {
  key: string;
  label: string;
  n: number;
  bytes: number;
  workers: string[];
  holders: string[];
}
interface Holdings {
  labels: Holding[];
  largest: Value[];
  bytes: number;
  held: number;
  looked: number;
  as_of?: number;
}

const MEMORY_WORDS = new Set(["paused", "goes on", "spilled"]);

export function MemoryPage() {
  const workers = [...store.workers.values()].filter((worker) => worker.left === null);
  const [held, problem] = useAnswer<Holdings>("api/memory");
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
            format={format.bytes} binary
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
      <div>
        <Panel
          title="By function"
          extra={<span class="tools"><AsOf at={held?.as_of} /><small>{held && (held.looked < held.held ? `${format.count(held.looked)} of ${format.count(held.held)} stretches looked at` : `${format.bytes(held.bytes)} in all`)}</small></span>}
        >
          {problem && <p class="problem">{problem}</p>}
          <Table
            label="values in memory by function"
            rows={held?.labels ?? []}
            id={(line: Holding) => line.label}
            first={2}
            empty="No value lies on a worker."
            height={300}
            columns={[
              { name: "function", get: (l) => l.label, show: (l) => (<><Swatch label={l.label} /> {l.label}</>) },
              { name: "values", get: (l) => l.n, show: (l) => format.count(l.n), right: true },
              { name: "bytes", get: (l) => l.bytes, show: (l) => <span title={Object.entries(l.workers).map(([name, n]) => `${name}: ${format.bytes(n)}`).join("\n")}>{format.bytes(l.bytes)}</span>, right: true },
              { name: "on", get: (l) => Object.keys(l.workers).length, show: (l) => { const n = Object.keys(l.workers).length; return n === 1 ? Object.keys(l.workers)[0] : `${n} workers`; } },
              { name: "held", get: (l) => l.wanted, show: (l) => <span title="values that clients hold futures of">{format.count(l.wanted)}</span>, right: true },
              { name: "needed", get: (l) => l.needed_bytes, show: (l) => <span title="bytes that unfinished tasks still take">{format.bytes(l.needed_bytes)}</span>, right: true },
            ]}
          />
        </Panel>
        <Panel title="Pauses and spills">
          <History only={MEMORY_WORDS} />
        </Panel>
      </div>
      <Panel title="The largest values, and who holds them" class="across">
        <Table
          label="largest values"
          rows={held?.largest ?? []}
          id={(value: Value) => value.key}
          first={1}
          empty="No value lies on a worker."
          height={360}
          columns={[
            { name: "task", get: (v) => v.key, show: (v) => (<><Swatch label={v.label} /> <Key name={v.key} />{v.n > 1 && <small> and {format.count(v.n - 1)} after it</small>}</>) },
            { name: "bytes", get: (v) => v.bytes, show: (v) => format.bytes(v.bytes), right: true },
            { name: "lies on", get: (v) => v.workers.join(", ") },
            { name: "held by", get: (v) => v.holders.join(", ") || "nobody: it goes" },
          ]}
        />
      </Panel>
    </div>
  );
}
