import * as format from "../format";
import { Panel } from "../parts";
import { useParam } from "../place";
import { store } from "../store";
import { Workers } from "./home";

const GOOD = new Set(["joined", "goes on"]);

/** Who came and went, and whose memory was short; on the memory page as well. */
export function History({ only }: { only?: Set<string> }) {
  const lines = store.history.filter(([, what]) => !only || only.has(what));
  return (
    <>
      <ul class="plain happenings">
        {[...lines].reverse().slice(0, 50).map(([at, what, worker, words], index) => (
          <li key={`${at}${worker}${what}${index}`}>
            <time>{format.timeOfDay(at, store.now, store.wall)}</time> <b>{worker}</b> <span class={`state ${what === "left" ? "failed" : GOOD.has(what) ? "done" : "assigned"}`}>{what}</span> <small>{words}</small>
          </li>
        ))}
      </ul>
      {!lines.length && <p class="empty">Nothing, since this page looks on.</p>}
    </>
  );
}

export function WorkersPage() {
  const [text, setText] = useParam("q");
  return (
    <div class="page">
      <Panel
        title="Workers"
        extra={
          <span class="tools">
            <span class="count">{format.count(store.workers.size)}</span>
            <input id="search" type="search" placeholder="name or host  ( / )" aria-label="search workers" value={text} onInput={(event) => setText((event.target as HTMLInputElement).value)} />
          </span>
        }
      >
        <Workers height={600} text={text} />
      </Panel>
      <Panel title="Came, went, paused, spilled">
        <History />
      </Panel>
    </div>
  );
}
