import { useEffect, useRef, useState } from "preact/hooks";
import { colorOf, themeColor } from "../colors";
import { type Box, boxesOf, frameOf, hottest, placeOf, type ProfileAnswer } from "../flame";
import * as format from "../format";
import { Panel, Swatch, Table } from "../parts";
import { useParam } from "../place";
import { ask, store } from "../store";

const ROW = 19;
const HEIGHT = 560;

const EMPTY: ProfileAnswer = { names: [], nodes: [0], subjects: [], status: "" };

function seconds(microseconds: number): string {
  return format.seconds(microseconds / 1e6);
}

/** What code runs, asked for anew every second; while it is asked for, it is looked at. */
function useProfile(query: string): [ProfileAnswer, string] {
  const [answer, setAnswer] = useState<ProfileAnswer>(EMPTY);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    let alive = true;
    const again = () => {
      if (!alive) return;
      ask<ProfileAnswer>(`api/profile?${query}`).then(
        (found) => {
          if (!alive) return;
          setAnswer(found);
          setProblem("");
          if (!store.kept) setTimeout(again, document.hidden ? 5_000 : 1_000);
        },
        (error: Error) => {
          setProblem(error.message);
          if (!store.kept) setTimeout(again, 5_000);
        },
      );
    };
    again();
    return () => {
      alive = false;
    };
  }, [query]);
  return [answer, problem];
}

export function Profile() {
  const [fn, setFn] = useParam("function");
  const [worker, setWorker] = useParam("worker");
  const [span, setSpan] = useParam("seconds", "0");
  const [text, setText] = useParam("q");
  const query = new URLSearchParams({ function: fn, worker, seconds: span }).toString();
  const [answer, problem] = useProfile(query);
  const labels = [...new Set([...answer.subjects.map(([, label]) => label), ...(fn ? [fn] : [])])].sort();
  const workers = [...new Set([...answer.subjects.map(([name]) => name), ...(worker ? [worker] : [])])].filter(Boolean).sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
  const rows = hottest(answer);
  const whole = Math.max(1, boxesOf(answer)[0].total);
  return (
    <div class="page">
      <Panel
        title="What code runs"
        extra={
          <span class="tools">
            <select aria-label="function" value={fn} onChange={(event) => setFn((event.target as HTMLSelectElement).value)}>
              <option value="">all functions</option>
              {labels.map((label) => (
                <option key={label} value={label}>
                  {label}
                </option>
              ))}
            </select>
            <select aria-label="worker" value={worker} onChange={(event) => setWorker((event.target as HTMLSelectElement).value)}>
              <option value="">all workers</option>
              {workers.map((name) => (
                <option key={name} value={name}>
                  {name}
                </option>
              ))}
            </select>
            {!store.kept && <select aria-label="how far back" value={span} onChange={(event) => setSpan((event.target as HTMLSelectElement).value)}>
              <option value="0">since somebody looks</option>
              <option value="60">the last minute</option>
              <option value="10">the last ten seconds</option>
            </select>}
            <input id="search" type="search" placeholder="highlight  ( / )" aria-label="highlight functions" value={text} onInput={(event) => setText((event.target as HTMLInputElement).value)} />
          </span>
        }
      >
        {problem && <p class="problem">{problem}</p>}
        <Flame answer={answer} wanted={text.toLowerCase()} />
      </Panel>
      <Panel title="What takes longest by itself" extra={<span class="count">{seconds(whole)} seen</span>}>
        <Table
          label="functions by their own time"
          rows={rows}
          id={(row) => row.name}
          first={2}
          height={330}
          empty="Nothing was seen to run yet."
          columns={[
            {
              name: "function",
              get: (row) => frameOf(row.name).function,
              show: (row) => (
                <>
                  <Swatch label={frameOf(row.name).file} /> <span class="mono">{frameOf(row.name).function}</span>
                </>
              ),
            },
            { name: "where", get: (row) => frameOf(row.name).file, show: (row) => <small title={frameOf(row.name).file}>{placeOf(frameOf(row.name))}</small> },
            { name: "itself", get: (row) => row.self, show: (row) => `${seconds(row.self)} · ${format.percent(row.self / whole)}`, right: true },
            { name: "with all it calls", get: (row) => row.total, show: (row) => `${seconds(row.total)} · ${format.percent(row.total / whole)}`, right: true },
          ]}
        />
      </Panel>
      <p class="hint">
        {store.link === "replay"
          ? "Runners looked at their tasks a hundred times a second while this was recorded, or while somebody had this page open."
          : "Runners look at their tasks a hundred times a second, and so does the scheduler at itself, as long as this page is open; not at all otherwise."}
      </p>
    </div>
  );
}

function Flame({ answer, wanted }: { answer: ProfileAnswer; wanted: string }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [zoom, setZoom] = useState<string[]>([]);
  const [tip, setTip] = useState<{ x: number; y: number; box: Box } | null>(null);
  const [width, setWidth] = useState(0);
  const boxes = boxesOf(answer);
  const top = find(answer, boxes, zoom);
  const chain: Box[] = [];
  for (let at: Box | undefined = top; at && at.node; at = boxes[at.parent]) chain.unshift(at);
  const deepest = boxes.reduce((most, box) => Math.max(most, box.depth), 0);
  const height = Math.min(HEIGHT, Math.max(120, ROW * (deepest + 1) + 2));

  useEffect(() => {
    const element = canvas.current!;
    const sized = new ResizeObserver(() => setWidth(element.clientWidth));
    sized.observe(element);
    return () => sized.disconnect();
  }, []);

  useEffect(() => {
    const element = canvas.current!;
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    element.width = Math.round(width * ratio);
    element.height = Math.round(height * ratio);
    const c = element.getContext("2d")!;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    draw(c, answer, boxes, top, width, wanted);
  });

  const under = (event: MouseEvent): Box | undefined => {
    const box = canvas.current!.getBoundingClientRect();
    const depth = Math.floor((event.clientY - box.top) / ROW);
    const time = top.from + ((event.clientX - box.left) / box.width) * top.total;
    const above = chain.find((one) => one.depth === depth) ?? (depth === 0 ? boxes[0] : undefined);
    if (depth <= top.depth) return above;
    return boxes.find((one) => one.depth === depth && one.from <= time && time < one.from + one.total);
  };
  const open = (box: Box | undefined) => {
    const path: string[] = [];
    for (let at = box; at && at.node; at = boxes[at.parent]) path.unshift(answer.names[at.name]);
    setZoom(path);
  };
  const keys = (event: KeyboardEvent) => {
    const inside = boxes.filter((box) => box.parent === top.node && box.node);
    const widest = inside.reduce<Box | undefined>((best, box) => (!best || box.total > best.total ? box : best), undefined);
    const beside = boxes.filter((box) => box.parent === top.parent && box.node).sort((a, b) => a.from - b.from);
    const moves: Record<string, Box | undefined> = {
      ArrowDown: widest,
      ArrowUp: boxes[Math.max(0, top.parent)],
      ArrowLeft: beside[beside.indexOf(top) - 1],
      ArrowRight: beside[beside.indexOf(top) + 1],
      Escape: boxes[0],
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    if (moves[event.key]) open(moves[event.key]);
  };
  const words = top.node ? `${frameOf(answer.names[top.name]).function}, ${seconds(top.total)}` : `everything, ${seconds(top.total)}`;
  return (
    <div class="stream" style={{ height: `${height}px` }}>
      <canvas
        ref={canvas}
        data-testid="flame"
        tabIndex={0}
        role="img"
        aria-label={`flame graph of ${boxes.length - 1} frames, showing ${words}; arrow down goes into the widest, up goes out, left and right go beside, escape shows everything`}
        onClick={(event) => open(under(event))}
        onMouseMove={(event) => {
          const box = under(event);
          const at = canvas.current!.getBoundingClientRect();
          setTip(box ? { x: event.clientX - at.left, y: event.clientY - at.top, box } : null);
        }}
        onMouseLeave={() => setTip(null)}
        onKeyDown={keys}
      />
      {tip && <Tip answer={answer} boxes={boxes} {...tip} width={width} />}
    </div>
  );
}

function Tip({ answer, boxes, box, x, y, width }: { answer: ProfileAnswer; boxes: Box[]; box: Box; x: number; y: number; width: number }) {
  const frame = box.node ? frameOf(answer.names[box.name]) : { function: "everything", file: "", line: "" };
  const whole = Math.max(1, boxes[0].total);
  return (
    <div class="tip" style={{ left: `${Math.min(x + 14, width - 280)}px`, top: `${y + 14}px` }}>
      <b>{frame.function}</b>
      {frame.file && (
        <div>
          {frame.file}:{frame.line}
        </div>
      )}
      <div>
        {seconds(box.total)} · {format.percent(box.total / whole)} of all, {seconds(box.self)} by itself
      </div>
    </div>
  );
}

/** The box at the end of a path of names, or as far along it as there is one. */
function find(answer: ProfileAnswer, boxes: Box[], path: string[]): Box {
  let at = boxes[0];
  for (const name of path) {
    const next = boxes.find((box) => box.node && box.parent === at.node && answer.names[box.name] === name);
    if (!next) break;
    at = next;
  }
  return at;
}

function draw(c: CanvasRenderingContext2D, answer: ProfileAnswer, boxes: Box[], top: Box, width: number, wanted: string): void {
  c.clearRect(0, 0, width, 1e4);
  c.font = "11.5px system-ui, sans-serif";
  c.textBaseline = "middle";
  const faint = themeColor("faint");
  if (boxes.length < 2) {
    c.fillStyle = faint;
    c.textAlign = "center";
    c.fillText("nothing was seen to run yet", width / 2, 50);
    return;
  }
  c.textAlign = "left";
  const scale = width / Math.max(1, top.total);
  const above = new Set<number>();
  for (let at = top; ; at = boxes[at.parent]) {
    above.add(at.node);
    if (!at.node) break;
  }
  for (const box of boxes) {
    const whole = above.has(box.node);
    const x = whole ? 0 : (box.from - top.from) * scale;
    const wide = whole ? width : box.total * scale;
    if (x + wide <= 0 || x >= width || wide < 0.4 || (!whole && box.depth <= top.depth)) continue;
    const frame = box.node ? frameOf(answer.names[box.name]) : null;
    const found = !wanted || !frame || answer.names[box.name].toLowerCase().includes(wanted);
    c.globalAlpha = (whole && box !== top ? 0.45 : 1) * (found ? 1 : 0.22);
    c.fillStyle = frame ? (frame.file ? colorOf(frame.file) : colorOf(frame.function)) : themeColor("lane");
    const [from, to] = [Math.max(0, x), Math.min(width, x + wide)];
    c.fillRect(from, box.depth * ROW, Math.max(0.5, to - from - 0.7), ROW - 1);
    if (to - from > 34) {
      c.fillStyle = frame ? "#fff" : faint;
      c.save();
      c.beginPath();
      c.rect(from, box.depth * ROW, to - from - 4, ROW);
      c.clip();
      const words = frame ? frame.function : "everything";
      if (frame) {
        c.shadowColor = "#0009";
        c.shadowBlur = 2;
      }
      c.fillText(words, from + 5, box.depth * ROW + ROW / 2);
      c.restore();
    }
  }
  c.globalAlpha = 1;
}
