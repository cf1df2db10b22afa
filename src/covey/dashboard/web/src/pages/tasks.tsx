import { useEffect, useState } from "preact/hooks";
import * as format from "../format";
import { Key, Panel, Swatch, Table, ago } from "../parts";
import { useParam } from "../place";
import { act, ask, store } from "../store";
import { Stream } from "../stream";
import type { Log } from "../types";
import { Progress } from "./home";
import { Lines } from "./logs";

interface Found {
  key: string;
  n: number;
  label: string;
  worker: string;
  at: number;
  seconds: number;
  state: string;
}

interface Input {
  key: string;
  state: string;
  worker: string | null;
  text: string;
}

interface Neighbour {
  key: string;
  label: string;
  n: number;
  state: string;
  workers: string[];
  nbytes: number;
  seconds: number;
}

interface Answer {
  key: string;
  task?: string;
  state: string;
  text: string;
  label?: string;
  n?: number;
  nbytes?: number;
  seconds?: number;
  worker?: string;
  workers?: string[];
  inputs?: Input[];
  attempts?: number;
  last_error?: string;
  origin?: string;
  traceback?: string;
  printed?: string;
  needs?: Neighbour[];
  needs_n?: number;
  needed_by?: Neighbour[];
  needed_by_n?: number;
  holders?: string[];
  options?: { priority: number; retries: number; timeout: number; resources: Record<string, number>; workers: string[] };
  logs: Log[];
  life: [at: number, what: string, where: string, words: string][];
}

export function Tasks() {
  const [text, setText] = useParam("q");
  const [found, setFound] = useState<Found[]>([]);
  const [problem, setProblem] = useState("");
  const frames = Math.floor(store.frames / 10);
  useEffect(() => {
    const timer = setTimeout(() => {
      ask<Found[]>(`api/search?q=${encodeURIComponent(text)}`).then(
        (rows) => {
          setFound(rows);
          setProblem("");
        },
        (error: Error) => setProblem(error.message),
      );
    }, 150);
    return () => clearTimeout(timer);
  }, [text, frames]);
  return (
    <div class="page two">
      <div>
        <Panel title="Task stream">
          <Stream height={360} tall />
        </Panel>
        <Panel title="What ran" extra={<input id="search" type="search" placeholder="key, function or worker  ( / )" aria-label="search tasks" value={text} onInput={(event) => setText((event.target as HTMLInputElement).value)} />}>
          {problem && <p class="problem">{problem}</p>}
          <Table
            label="tasks that ran"
            rows={found}
            id={(row) => row.key}
            first={3}
            empty="Nothing that fits has run, as far as this page remembers."
            height={330}
            columns={[
              {
                name: "task",
                get: (row) => row.key,
                show: (row) => (
                  <>
                    <Swatch label={row.label} /> <Key name={row.key} />
                    {row.n > 1 && <small> and {row.n - 1} after it</small>}
                  </>
                ),
              },
              { name: "worker", get: (row) => row.worker },
              { name: "took", get: (row) => row.seconds, show: (row) => format.seconds(row.seconds), right: true },
              { name: "ended", get: (row) => row.at, show: (row) => ago(row.at), right: true },
              { name: "state", get: (row) => row.state, show: (row) => <span class={`state ${row.state}`}>{row.state}</span> },
            ]}
          />
        </Panel>
      </div>
      <Panel title="Progress by function">
        <Progress />
      </Panel>
    </div>
  );
}

/** The traceback of a task, asked for when it is opened. */
export function Traceback({ name }: { name: string }) {
  const [text, setText] = useState("");
  return (
    <details
      onToggle={(event) => {
        if (!(event.currentTarget as HTMLDetailsElement).open || text) return;
        ask<Answer>(`api/task?key=${encodeURIComponent(name)}`).then(
          (answer) => setText(answer.traceback ?? answer.text),
          (error: Error) => setText(error.message),
        );
      }}
    >
      <summary>traceback of the last one</summary>
      <pre class="traceback" data-testid="traceback">
        {text || "…"}
      </pre>
    </details>
  );
}

export function Task({ name }: { name: string }) {
  const [answer, setAnswer] = useState<Answer | null>(null);
  const [problem, setProblem] = useState("");
  const [said, setSaid] = useState("");
  const frames = Math.floor(store.frames / 5);
  const [acted, setActed] = useState(0);
  useEffect(() => {
    ask<Answer>(`api/task?key=${encodeURIComponent(name)}`).then(
      (found) => {
        setAnswer(found);
        setProblem("");
      },
      (error: Error) => setProblem(error.message),
    );
  }, [name, frames, acted]);
  const doIt = (what: "cancel" | "retry") => {
    act(`api/${what}`, name).then(
      () => {
        setSaid(what === "cancel" ? "It was told to stop." : "It was submitted once more.");
        // Where nothing else happens, nothing else would show what came of it.
        for (const later of [300, 1_000, 3_000]) setTimeout(() => setActed(later), later);
      },
      (error: Error) => setSaid(error.message),
    );
  };
  const unfinished = answer !== null && ["waiting", "ready", "assigned"].includes(answer.state);
  return (
    <div class="page">
      <Panel title="Task" class="task">
        <h1 class="mono">
          {answer?.label && <Swatch label={answer.label} />} {name}
        </h1>
        {problem && <p class="problem">{problem}</p>}
        {answer && (
          <>
            <p class="lead" data-testid="explanation">
              <span class={`state ${answer.state}`}>{answer.state}</span> {answer.text}
            </p>
            {store.link !== "replay" && <p>
              <button type="button" disabled={!unfinished} onClick={() => doIt("cancel")}>
                Cancel
              </button>{" "}
              <button type="button" disabled={answer.state !== "failed"} onClick={() => doIt("retry")}>
                Retry
              </button>{" "}
              <span role="status" data-testid="said">
                {said}
              </span>
            </p>}
            {answer.origin && (
              <p>
                It failed because its input <Key name={answer.origin} /> failed.
              </p>
            )}
          </>
        )}
      </Panel>
      {answer?.traceback && (
        <Panel title="Traceback">
          <pre class="traceback" data-testid="traceback">
            {answer.traceback}
          </pre>
        </Panel>
      )}
      {answer && (
        <div class="page two even">
          <Panel title="Its life">
            <ol class="life" data-testid="life">
              {answer.life.map(([at, what, where, words], index) => (
                <li key={`${at}${index}`} class={LIFE_CLASSES[what] ?? ""}>
                  <time>{format.timeOfDay(at, store.now, store.wall)}</time>
                  <span>
                    <b>{what}</b> {where && <>{what === "copied" ? "to" : "on"} {where} </>}
                    <small>{words}</small>
                  </span>
                </li>
              ))}
              {unfinished && (
                <li class="now">
                  <time>now</time>
                  <span>
                    <b>{answer.state}</b> {answer.worker && `on ${answer.worker} `}
                    <small>since {format.seconds(answer.seconds ?? 0)}</small>
                  </span>
                </li>
              )}
            </ol>
            {!answer.life.length && <p class="empty">This page remembers nothing of it: it is long ago, or from before it looked on.</p>}
          </Panel>
          <Facts answer={answer} />
          <Neighbours title="What it needs" rows={answer.needs ?? []} total={answer.needs_n ?? 0} texts={answer.inputs ?? []} empty={answer.needs ? "It needs no other task." : "Nobody knows any more."} />
          <Neighbours title="What needs it" rows={answer.needed_by ?? []} total={answer.needed_by_n ?? 0} texts={[]} empty={answer.needed_by ? "No other task needs it." : "Nobody knows any more."} />
        </div>
      )}
      <Panel title="What it printed">
        <Lines logs={answer?.logs ?? []} empty="It has printed nothing." />
      </Panel>
    </div>
  );
}

const LIFE_CLASSES: Record<string, string> = { returned: "good", raised: "bad", failed: "bad", lost: "bad", "tried again": "busy" };

function Facts({ answer }: { answer: Answer }) {
  const options = answer.options;
  const asks = Object.entries(options?.resources ?? {}).map(([name, amount]) => `${name}=${amount}`);
  return (
    <Panel title="Facts">
      <dl>
        <dt>function</dt>
        <dd>{answer.label ?? answer.key.replace(/-[0-9a-f]+$/, "")}</dd>
        {(answer.n ?? 1) > 1 && (
          <>
            <dt>stands together with</dt>
            <dd>{format.count((answer.n ?? 1) - 1)} others</dd>
          </>
        )}
        {!!answer.workers?.length && answer.state === "done" && (
          <>
            <dt>its value</dt>
            <dd>
              {format.bytes(answer.nbytes ?? 0)} on {answer.workers.join(", ")}
            </dd>
          </>
        )}
        <dt>held by</dt>
        <dd>{answer.holders?.join(", ") || "nobody"}</dd>
        {options && (
          <>
            <dt>priority</dt>
            <dd>{options.priority}</dd>
            <dt>tries</dt>
            <dd>
              {answer.attempts ?? 0} failed, {options.retries} retries allowed
            </dd>
            <dt>asks for</dt>
            <dd>{[...asks, ...options.workers].join(", ") || "any worker"}</dd>
            {options.timeout > 0 && (
              <>
                <dt>stopped after</dt>
                <dd>{format.seconds(options.timeout)}</dd>
              </>
            )}
          </>
        )}
      </dl>
      {answer.label && (
        <p>
          <a href={`#/profile?function=${encodeURIComponent(answer.label)}`}>what {answer.label} spends its time on</a>
        </p>
      )}
    </Panel>
  );
}

function Neighbours({ title, rows, total, texts, empty }: { title: string; rows: Neighbour[]; total: number; texts: Input[]; empty: string }) {
  const said = new Map(texts.map((input) => [input.key.split(" ")[0], input.text]));
  return (
    <Panel title={title} extra={<span class="count">{total > rows.length ? `${rows.length} of ${format.count(total)}` : total || ""}</span>}>
      <Table
        label={title.toLowerCase()}
        rows={rows}
        id={(row) => row.key}
        first={1}
        down={false}
        empty={empty}
        height={260}
        columns={[
          { name: "task", get: (row) => row.key, show: (row) => (<><Swatch label={row.label} /> <Key name={row.key} />{row.n > 1 && <small> and {row.n - 1} after it</small>}</>) },
          { name: "state", get: (row) => row.state, show: (row) => <span class={`state ${row.state}`} title={said.get(row.key)}>{row.state}</span> },
          { name: "where", get: (row) => row.workers.join(", ") || (row.state === "released" ? "used and dropped" : "nowhere yet") },
          { name: "bytes", get: (row) => row.nbytes, show: (row) => (row.nbytes ? format.bytes(row.nbytes) : ""), right: true },
        ]}
      />
    </Panel>
  );
}
