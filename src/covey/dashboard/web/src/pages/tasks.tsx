import { useEffect, useState } from "preact/hooks";
import * as format from "../format";
import { Key, Panel, Swatch, Table, ago } from "../parts";
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

interface Answer {
  key: string;
  task?: string;
  state: string;
  text: string;
  label?: string;
  seconds?: number;
  worker?: string;
  workers?: string[];
  inputs?: Input[];
  attempts?: number;
  last_error?: string;
  origin?: string;
  failure?: string;
  traceback?: string;
  logs: Log[];
  runs: Found[];
}

export function Tasks() {
  const [text, setText] = useState("");
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
  useEffect(() => {
    ask<Answer>(`api/task?key=${encodeURIComponent(name)}`).then(
      (found) => {
        setAnswer(found);
        setProblem("");
      },
      (error: Error) => setProblem(error.message),
    );
  }, [name, frames]);
  const doIt = (what: "cancel" | "retry") => {
    act(`api/${what}`, name).then(
      () => setSaid(what === "cancel" ? "It was told to stop." : "It was submitted once more."),
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
            <p>
              <button type="button" disabled={!unfinished} onClick={() => doIt("cancel")}>
                Cancel
              </button>{" "}
              <button type="button" disabled={answer.state !== "failed"} onClick={() => doIt("retry")}>
                Retry
              </button>{" "}
              <span role="status" data-testid="said">
                {said}
              </span>
            </p>
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
      {!!answer?.inputs?.length && (
        <Panel title="Inputs that are missing">
          <Table
            label="inputs"
            rows={answer.inputs}
            id={(row) => row.key}
            first={0}
            empty=""
            columns={[
              { name: "input", get: (row) => row.key, show: (row) => <Key name={row.key.split(" ")[0]} /> },
              { name: "state", get: (row) => row.state },
              { name: "worker", get: (row) => row.worker ?? "" },
              { name: "how it stands", get: (row) => row.text },
            ]}
          />
        </Panel>
      )}
      {!!answer?.runs.length && (
        <Panel title="Runs">
          <Table
            label="runs"
            rows={answer.runs}
            id={(row) => row.key}
            first={2}
            empty=""
            columns={[
              { name: "worker", get: (row) => row.worker },
              { name: "took", get: (row) => row.seconds, show: (row) => format.seconds(row.seconds), right: true },
              { name: "ended", get: (row) => row.at, show: (row) => ago(row.at), right: true },
              { name: "state", get: (row) => row.state },
            ]}
          />
        </Panel>
      )}
      <Panel title="What it printed">
        <Lines logs={answer?.logs ?? []} empty="It has printed nothing." />
      </Panel>
    </div>
  );
}
