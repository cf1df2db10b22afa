/** A small curve over time, drawn by uPlot. */

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { themeColor } from "./colors";
import { store } from "./store";

export interface Curve {
  /** Which number of a point. */
  at: number;
  name: string;
  color: string;
  fill?: boolean;
}

/** Steps of an axis of bytes: whole KiB and MiB read best. */
const POWERS = Array.from({ length: 50 }, (_, power) => 2 ** power);

export function Plot({ curves, height, format, title, max, binary }: { curves: Curve[]; height: number; format: (value: number) => string; title: string; max?: number; binary?: boolean }) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const theme = document.documentElement.dataset.theme;

  useEffect(() => {
    const element = box.current!;
    const axis = {
      stroke: themeColor("faint"),
      font: "11px system-ui",
      grid: { stroke: themeColor("line"), width: 1 },
      ticks: { show: false },
    };
    const made = new uPlot(
      {
        width: element.clientWidth,
        height,
        legend: { show: false },
        cursor: { y: false, points: { size: 5 } },
        padding: [6, 16, 0, 0],
        scales: { x: { time: false }, y: { range: (_, low, high) => [Math.min(0, low), max ?? Math.max(high * 1.1, 1e-9)] } },
        axes: [
          { ...axis, size: 20, space: 70, values: (_, splits) => splits.map((t) => (Math.abs(t) < 0.5 ? "now" : `${Math.round(t)} s`)) },
          { ...axis, size: 62, space: 26, values: (_, splits) => splits.map(format), ...(binary && { incrs: POWERS }) },
        ],
        series: [
          {},
          ...curves.map((curve) => ({
            label: curve.name,
            stroke: themeColor(curve.color),
            width: 1.5,
            fill: curve.fill ? `${themeColor(curve.color)}2b` : undefined,
            points: { show: false },
          })),
        ],
      },
      [[], ...curves.map(() => [])] as uPlot.AlignedData,
      element,
    );
    plot.current = made;
    const sized = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height }));
    sized.observe(element);
    return () => {
      sized.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [theme, height]);

  useEffect(() => {
    const points = store.points.slice(-360);
    const times = points.map((point) => point[0] - store.now);
    plot.current?.setData([times, ...curves.map((curve) => points.map((point) => point[curve.at]))] as uPlot.AlignedData);
  });

  const last = store.points.at(-1);
  const now = curves.map((curve) => `${curve.name} ${last ? format(last[curve.at]) : "none"}`).join(", ");
  return (
    <figure class="plot" role="img" aria-label={`${title}: ${now}`}>
      <figcaption>
        {title}
        {curves.map((curve) => (
          <span key={curve.name} class="key">
            <i style={{ background: `var(--${curve.color})` }} />
            {curve.name} <b>{last ? format(last[curve.at]) : "–"}</b>
          </span>
        ))}
      </figcaption>
      <div ref={box} />
    </figure>
  );
}
