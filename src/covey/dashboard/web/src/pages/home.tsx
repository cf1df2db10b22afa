import * as format from "../format";
import { Bar, MemoryBar, Panel, Swatch, Table, ago } from "../parts";
import { Plot } from "../plot";
import { store } from "../store";
import { Stream } from "../stream";
import type { FunctionLine, WorkerLine } from "../types";

function Tile({ name, value, note, bad, testid }: { name: string; value: string; note?: string; bad?: boolean; testid?: string }) {
  return (
    <div class={`tile ${bad ? "bad" : ""}`} data-testid={testid}>
      <span>{name}</span>
      <b>{value}</b>
      <small>{note ?? " "}</small>
    </div>
  );
}

function Health() {
  const t = store.totals;
  if (!t) return <div class="strip" aria-busy="true" />;
  const used = t.heap + t.shared;
  return (
    <div class="strip" role="group" aria-label="health">
      <Tile testid="workers" name="workers" value={format.count(t.workers)} note={t.lost ? `${t.lost} lost` : format.counted(t.slots, "slot")} bad={!t.workers} />
      <Tile testid="done" name="tasks done" value={format.short(t.done)} note={`${format.short(t.rate)} /s`} />
      <Tile testid="running" name="on workers" value={format.short(t.running)} note={`for ${format.counted(t.slots, "slot")}`} />
      <Tile testid="pending" name="to do" value={format.short(t.pending)} note={t.pending && t.eta ? `about ${format.seconds(t.eta)}` : `${format.short(t.ready)} ready`} />
      <Tile testid="failed" name="failed" value={format.short(t.failed)} note={t.retried ? `${format.short(t.retried)} retried` : "none retried"} bad={t.failed > 0} />
      <Tile name="processors" value={format.percent(t.cpu)} note="of all slots" />
      <Tile name="memory" value={format.bytes(used)} note={t.spilled ? `${format.bytes(t.spilled)} on disk` : `of ${format.bytes(t.limit)}`} bad={t.limit > 0 && used > 0.85 * t.limit} />
      <Tile name="moved" value={format.bytes(t.moved)} note="between workers" />
      <Tile name="scheduler" value={format.percent(t.scheduler_cpu)} note={`${format.seconds(t.lag)} late`} bad={t.lag > 0.25} />
    </div>
  );
}

export function Suspects({ limit = 6 }: { limit?: number }) {
  const found = store.suspects;
  return (
    <Panel title="Suspects" class="suspects" extra={<span class="count">{found.length || ""}</span>}>
      {found.length ? (
        <ul>
          {found.slice(0, limit).map((one) => (
            <li key={one.text} class={`level-${one.level}`}>
              {one.link ? <a href={one.link}>{one.text}</a> : <span>{one.text}</span>}
              <small>{one.advice}</small>
            </li>
          ))}
        </ul>
      ) : (
        <p class="empty fine">Nothing looks wrong.</p>
      )}
    </Panel>
  );
}

function eta(line: FunctionLine): number {
  const slots = store.totals?.slots ?? 0;
  return slots ? (line.pending * line.mean) / slots : 0;
}

export function Progress({ height, limit }: { height?: number; limit?: number }) {
  let lines = [...store.functions.values()];
  lines.sort((a, b) => Number(b.pending > 0) - Number(a.pending > 0) || b.last - a.last);
  if (limit) lines = lines.slice(0, limit);
  return (
    <div class="progress" style={height ? { maxHeight: `${height}px` } : undefined} role="list" aria-label="progress by function">
      {lines.map((line) => {
        const total = Math.max(line.submitted + line.lost, line.done + line.failed, 1);
        return (
          <div class="function" role="listitem" key={line.label} data-testid={`function-${line.label}`}>
            <div class="names">
              <Swatch label={line.label} />
              <b title={line.label}>{line.label}</b>
              <span>
                {format.count(line.done)} / {format.count(total)}
                {line.failed > 0 && <em> {format.count(line.failed)} failed</em>}
              </span>
            </div>
            <Bar
              title={`${line.done} done, ${line.failed} failed, ${line.running} running, ${line.pending} to do`}
              total={total}
              parts={[
                { name: "done", value: line.done, color: "good" },
                { name: "failed", value: line.failed, color: "bad" },
                { name: "running", value: line.running, color: "busy" },
              ]}
            />
            <small>
              {line.running > 0 && `${format.count(line.running)} on workers · `}
              {line.mean > 0 ? `mean ${format.seconds(line.mean)} · p95 ${format.seconds(line.p95)}` : "none has returned yet"}
              {line.pending > 0 && line.mean > 0 ? ` · about ${format.seconds(eta(line))} left` : ""}
              {line.retried > 0 ? ` · ${format.count(line.retried)} retried` : ""}
            </small>
          </div>
        );
      })}
      {!lines.length && <p class="empty">Nothing was submitted yet.</p>}
    </div>
  );
}

export function stateOf(worker: WorkerLine): string {
  if (worker.left !== null) return "lost";
  if (worker.paused) return "paused";
  return worker.running.length || store.clock - worker.last < 1 ? "busy" : "idle";
}

export function Workers({ height, brief = false, text = "" }: { height?: number; brief?: boolean; text?: string }) {
  const wanted = text.toLowerCase();
  let rows = [...store.workers.values()].filter((worker) => !wanted || worker.name.toLowerCase().includes(wanted) || worker.host.toLowerCase().includes(wanted));
  if (brief) rows = rows.filter((worker) => worker.left === null || store.clock - worker.left < 300);
  const columns = [
    {
      name: "worker",
      get: (w: WorkerLine) => w.name,
      show: (w: WorkerLine) => (
        <span data-testid={`worker-${w.name}`} data-state={stateOf(w)}>
          <i class={`dot ${stateOf(w)}`} aria-hidden="true" />{" "}
          <a href={`#/tasks?q=${encodeURIComponent(w.name)}`} title="what ran there">
            {w.name}
          </a>
        </span>
      ),
    },
    { name: "state", get: (w: WorkerLine) => stateOf(w), show: (w: WorkerLine) => (w.left !== null ? (brief ? <span title={ago(w.left)}>lost</span> : `lost ${ago(w.left)}`) : stateOf(w)) },
    { name: "slots", get: (w: WorkerLine) => w.slots, right: true },
    {
      name: "cpu",
      get: (w: WorkerLine) => w.cpu / Math.max(1, w.slots),
      show: (w: WorkerLine) => (
        <div class="meter">
          <Bar title={`${format.percent(w.cpu / Math.max(1, w.slots))} of its slots`} total={Math.max(1, w.slots)} parts={[{ name: "cpu", value: w.cpu, color: "accent" }]} />
          <span>{format.percent(w.cpu / Math.max(1, w.slots))}</span>
        </div>
      ),
      wide: true,
    },
    {
      name: "memory",
      get: (w: WorkerLine) => w.memory.total ?? 0,
      show: (w: WorkerLine) => (
        <div class="meter">
          <MemoryBar worker={w} />
          <span>{format.bytes(w.memory.total ?? 0)}</span>
        </div>
      ),
      wide: true,
    },
    { name: "done", get: (w: WorkerLine) => w.done, show: (w: WorkerLine) => format.short(w.done), right: true },
    { name: "failed", get: (w: WorkerLine) => w.failed, show: (w: WorkerLine) => (w.failed ? <em>{format.short(w.failed)}</em> : 0), right: true },
  ];
  const more = [
    { name: "queue", get: (w: WorkerLine) => w.queued, right: true },
    { name: "on disk", get: (w: WorkerLine) => w.memory.spilled ?? 0, show: (w: WorkerLine) => format.bytes(w.memory.spilled ?? 0), right: true },
    { name: "sent", get: (w: WorkerLine) => w.sent, show: (w: WorkerLine) => format.bytes(w.sent), right: true },
    { name: "received", get: (w: WorkerLine) => w.received, show: (w: WorkerLine) => format.bytes(w.received), right: true },
    { name: "late", get: (w: WorkerLine) => w.lag, show: (w: WorkerLine) => format.seconds(w.lag), right: true },
    { name: "heard of", get: (w: WorkerLine) => w.sampled, show: (w: WorkerLine) => ago(w.sampled), right: true },
    { name: "host", get: (w: WorkerLine) => w.host },
  ];
  return <Table label="workers" rows={rows} columns={brief ? columns : [...columns, ...more]} id={(w) => w.name} empty="No worker is there. covey worker starts one." first={brief ? 1 : 0} down={brief ? true : false} height={height} />;
}

export function Home() {
  return (
    <div class="home">
      <Health />
      <Panel title="Task stream" class="wide">
        <Stream height={330} />
      </Panel>
      <div class="side">
        <Suspects />
        <Panel title="Progress" class="grow">
          <Progress />
        </Panel>
      </div>
      <Panel title="Workers" class="workers">
        <Workers height={262} brief />
      </Panel>
      <Panel title="Throughput and memory" class="curves">
        <Plot title="tasks" height={112} format={(v) => `${format.short(v)} /s`} curves={[{ at: 1, name: "done", color: "accent", fill: true }]} />
        <Plot
          title="memory"
          height={112}
          format={format.bytes} binary
          curves={[
            { at: 3, name: "heap", color: "mem-unmanaged", fill: true },
            { at: 4, name: "shared", color: "mem-shared", fill: true },
            { at: 5, name: "on disk", color: "bad" },
          ]}
        />
      </Panel>
    </div>
  );
}
