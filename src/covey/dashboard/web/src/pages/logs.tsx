import * as format from "../format";
import { Key, Panel } from "../parts";
import { useParam } from "../place";
import { store } from "../store";
import type { Log } from "../types";

export function Lines({ logs, empty }: { logs: Log[]; empty: string }) {
  if (!logs.length) return <p class="empty">{empty}</p>;
  return (
    <div class="lines" role="log">
      {logs.map(([at, key, worker, stream, text, leftOut], index) => (
        // biome-ignore lint: the place in the list is what a line is known by
        <div class={`line ${stream}`} key={`${at}${index}`}>
          <time>{format.timeOfDay(at, store.now, store.wall)}</time>
          <Key name={key} />
          <small>{worker}</small>
          <pre>{text.replace(/\n$/, "")}</pre>
          {leftOut > 0 && <em>{format.count(leftOut)} lines before it were too many</em>}
        </div>
      ))}
    </div>
  );
}

export function Logs() {
  const [text, setText] = useParam("q");
  const [stream, setStream] = useParam("stream");
  const wanted = text.toLowerCase();
  const found = store.logs.filter((log) => (!stream || log[3] === stream) && (!wanted || log.slice(1, 5).some((part) => String(part).toLowerCase().includes(wanted))));
  const shown = found.slice(-500).reverse();
  return (
    <div class="page">
      <Panel
        title="Prints and logs of tasks"
        extra={
          <span class="tools">
            <span class="count">{found.length > shown.length ? `the last ${shown.length} of ${format.count(found.length)}` : found.length || ""}</span>
            <select aria-label="stream" value={stream} onChange={(event) => setStream((event.target as HTMLSelectElement).value)}>
              <option value="">both streams</option>
              <option value="stdout">standard output</option>
              <option value="stderr">standard error</option>
            </select>
            <input id="search" type="search" placeholder="filter  ( / )" aria-label="filter logs" value={text} onInput={(event) => setText((event.target as HTMLInputElement).value)} />
          </span>
        }
      >
        <Lines logs={shown} empty={store.logs.length ? "No line fits." : "No task has printed anything."} />
      </Panel>
    </div>
  );
}
