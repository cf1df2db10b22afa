/** Small parts that several pages use. */

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { colorOf } from "./colors";
import * as format from "./format";
import { store } from "./store";
import type { Memory, WorkerLine } from "./types";

export function Panel({ title, children, extra, class: name = "" }: { title: string; children: ComponentChildren; extra?: ComponentChildren; class?: string }) {
  return (
    <section class={`panel ${name}`} aria-label={title}>
      <header>
        <h2>{title}</h2>
        {extra}
      </header>
      {children}
    </section>
  );
}

export function Swatch({ label }: { label: string }) {
  return <span class="swatch" style={{ background: colorOf(label) }} aria-hidden="true" />;
}

export function Bar({ parts, total, title }: { parts: { value: number; color: string; name: string }[]; total: number; title: string }) {
  return (
    <div class="bar" role="img" aria-label={title} title={title}>
      {parts.map((part) => (
        <i key={part.name} style={{ width: `${total ? Math.min(100, (100 * part.value) / total) : 0}%`, background: `var(--${part.color})` }} />
      ))}
    </div>
  );
}

export function memoryParts(memory: Memory) {
  return [
    { name: "small values", value: memory.small ?? 0, color: "mem-small" },
    { name: "shared", value: (memory.shared ?? 0) + (memory.in_flight ?? 0), color: "mem-shared" },
    { name: "unmanaged", value: memory.unmanaged ?? 0, color: "mem-unmanaged" },
    { name: "warm", value: memory.warm ?? 0, color: "mem-warm" },
  ];
}

export function MemoryBar({ worker }: { worker: WorkerLine }) {
  const parts = memoryParts(worker.memory);
  const limit = worker.memory.limit ?? worker.limit;
  const words = parts.map((part) => `${part.name} ${format.bytes(part.value)}`).join(", ");
  return <Bar parts={parts} total={limit} title={`${words}, spilled ${format.bytes(worker.memory.spilled ?? 0)}, of ${format.bytes(limit)}`} />;
}

export interface Column<T> {
  name: string;
  get: (row: T) => number | string;
  show?: (row: T) => ComponentChildren;
  right?: boolean;
  wide?: boolean;
}

const ROW = 30;
const SCREEN = 60;

/** A table that sorts by any column and draws only the rows that are seen. */
export function Table<T>({ rows, columns, id, empty, first, down = true, label, height }: { rows: T[]; columns: Column<T>[]; id: (row: T) => string; empty: string; first: number; down?: boolean; label: string; height?: number }) {
  const [order, setOrder] = useState<[number, boolean]>([first, down]);
  const [top, setTop] = useState(0);
  const [by, descending] = order;
  const sorted = [...rows].sort((a, b) => {
    const x = columns[by].get(a);
    const y = columns[by].get(b);
    const less = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true });
    return (descending ? -less : less) || id(a).localeCompare(id(b), undefined, { numeric: true });
  });
  const virtual = sorted.length > SCREEN;
  const from = virtual ? Math.max(0, Math.min(sorted.length - SCREEN, Math.floor(top / ROW) - 10)) : 0;
  const shown = virtual ? sorted.slice(from, from + SCREEN) : sorted;
  return (
    <div
      class="table"
      style={height ? { maxHeight: `${height}px` } : undefined}
      onScroll={(event) => {
        const next = (event.currentTarget as HTMLElement).scrollTop;
        if (virtual && Math.abs(next - top) > ROW * 4) setTop(next);
      }}
    >
      <table aria-label={label} aria-rowcount={sorted.length}>
        <thead>
          <tr>
            {columns.map((column, index) => (
              <th key={column.name} class={`${column.right ? "right" : ""} ${column.wide ? "wide" : ""}`} aria-sort={index === by ? (descending ? "descending" : "ascending") : "none"}>
                <button type="button" onClick={() => setOrder([index, index === by ? !descending : true])}>
                  {column.name}
                  {index === by ? (descending ? " ↓" : " ↑") : ""}
                </button>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {from > 0 && <tr style={{ height: `${from * ROW}px` }} aria-hidden="true" />}
          {shown.map((row) => (
            <tr key={id(row)}>
              {columns.map((column) => (
                <td key={column.name} class={column.right ? "right" : ""}>
                  {column.show ? column.show(row) : column.get(row)}
                </td>
              ))}
            </tr>
          ))}
          {from + shown.length < sorted.length && <tr style={{ height: `${(sorted.length - from - shown.length) * ROW}px` }} aria-hidden="true" />}
        </tbody>
      </table>
      {!rows.length && <p class="empty">{empty}</p>}
    </div>
  );
}

export function Key({ name }: { name: string }) {
  return (
    <a class="mono" href={`#/tasks/${encodeURIComponent(name)}`}>
      {name}
    </a>
  );
}

/** In a recording: when the scheduler was asked for what is shown. */
export function AsOf({ at }: { at: number | undefined }) {
  if (at === undefined) return null;
  return <small title="Looked at now and then while it was recorded; this is the last time that much was there.">as it stood at {format.timeOfDay(at, store.now, store.wall)}</small>;
}

export function ago(at: number): string {
  return `${format.seconds(Math.max(0, store.clock - at))} ago`;
}
