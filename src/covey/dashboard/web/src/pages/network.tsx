import { useEffect, useRef, useState } from "preact/hooks";
import { themeColor } from "../colors";
import * as format from "../format";
import { Panel, Table } from "../parts";
import { Plot } from "../plot";
import { store } from "../store";
import type { Pair } from "../types";

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
                        <td key={target} class={share > 0.4 ? "full" : ""} style={{ background: share ? `color-mix(in srgb, var(--accent) ${Math.round(12 + 78 * share)}%, transparent)` : undefined }} title={pair ? `${format.bytes(pair[2])} in ${format.count(pair[3])} copies` : "nothing"}>
                          {pair ? format.bytes(pair[2]) : ""}
                        </td>
                      );
                    })}
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        ) : names.length ? (
          <Heat names={names} most={most} />
        ) : (
          <p class="empty">Nothing was moved between workers.</p>
        )}
        <Plot title="moved" height={200} binary format={(v) => `${format.bytes(v)}/s`} curves={[{ at: 6, name: "between workers", color: "moved", fill: true }]} />
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

/** The matrix of many workers: a dot for each pair. */
function Heat({ names, most }: { names: string[]; most: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [text, setText] = useState("");
  const cell = Math.max(1, Math.min(14, Math.floor(760 / names.length)));
  const size = cell * names.length;
  useEffect(() => {
    const context = canvas.current!.getContext("2d")!;
    const numbers = new Map(names.map((name, at) => [name, at]));
    context.fillStyle = themeColor("lane");
    context.fillRect(0, 0, size, size);
    context.fillStyle = themeColor("accent");
    for (const pair of store.pairs.values()) {
      context.globalAlpha = 0.15 + 0.85 * Math.sqrt(pair[2] / most);
      context.fillRect(cell * numbers.get(pair[1])!, cell * numbers.get(pair[0])!, Math.max(1, cell - 1), Math.max(1, cell - 1));
    }
    context.globalAlpha = 1;
  });
  const hover = (event: MouseEvent) => {
    const box = canvas.current!.getBoundingClientRect();
    const target = names[Math.floor((event.clientX - box.left) / cell)];
    const source = names[Math.floor((event.clientY - box.top) / cell)];
    const pair = store.pairs.get(`${source}\n${target}`);
    setText(source && target ? `${source} → ${target}: ${pair ? `${format.bytes(pair[2])} in ${format.count(pair[3])} copies` : "nothing"}` : "");
  };
  return (
    <div class="matrix-box">
      <canvas ref={canvas} width={size} height={size} role="img" aria-label={`bytes between ${names.length} workers; the table of pairs has the numbers`} onMouseMove={hover} />
      <p class="hint">{text || "Point at a dot to see its pair."}</p>
    </div>
  );
}
