import * as format from "../format";
import { Key, Panel, Swatch, ago } from "../parts";
import { useParam } from "../place";
import { store } from "../store";
import { Traceback } from "./tasks";

export function Errors() {
  const [text, setText] = useParam("q");
  const wanted = text.toLowerCase();
  const all = [...store.errors.values()];
  const lines = all
    .filter((line) => !wanted || [line.label, line.type, line.message, ...Object.keys(line.workers)].some((part) => part.toLowerCase().includes(wanted)))
    .sort((a, b) => b.last - a.last);
  const failures = lines.reduce((sum, line) => sum + line.count, 0);
  return (
    <div class="page">
      <Panel
        title="Errors by cause"
        extra={
          <span class="tools">
            <span class="count">{lines.length ? `${format.count(failures)} failures, ${format.count(lines.length)} ${lines.length === 1 ? "cause" : "causes"}` : ""}</span>
            <input id="search" type="search" placeholder="filter  ( / )" aria-label="filter errors" value={text} onInput={(event) => setText((event.target as HTMLInputElement).value)} />
          </span>
        }
      >
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
            {line.tasks.length > 0 && <Traceback name={line.tasks[line.tasks.length - 1]} />}
            <p class="keys">
              {line.tasks.slice(-8).map((key) => (
                <Key key={key} name={key} />
              ))}
            </p>
          </article>
        ))}
        {!lines.length && (all.length ? <p class="empty">No error fits.</p> : <p class="empty fine">No task has failed.</p>)}
      </Panel>
    </div>
  );
}
