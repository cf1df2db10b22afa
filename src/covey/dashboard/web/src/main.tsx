import { render } from "preact";
import { useEffect, useReducer, useState } from "preact/hooks";
import "uplot/dist/uPlot.min.css";
import { Errors } from "./pages/errors";
import { Graph } from "./pages/graph";
import { Home } from "./pages/home";
import { Logs } from "./pages/logs";
import { MemoryPage } from "./pages/memory";
import { Network } from "./pages/network";
import { Profile } from "./pages/profile";
import { System } from "./pages/system";
import { Task, Tasks } from "./pages/tasks";
import { WorkersPage } from "./pages/workers";
import { usePlace } from "./place";
import * as format from "./format";
import { store } from "./store";
import "./style.css";

const PAGES = [
  ["", "Home", "h"],
  ["tasks", "Tasks", "t"],
  ["graph", "Graph", "g"],
  ["memory", "Memory", "m"],
  ["network", "Network", "n"],
  ["profile", "Profile", "p"],
  ["workers", "Workers", "w"],
  ["errors", "Errors", "e"],
  ["logs", "Logs", "l"],
  ["system", "System", "s"],
] as const;

const WORDS: Record<string, string> = {
  live: "live",
  lagging: "lagging",
  reconnecting: "reconnecting",
  connecting: "connecting",
  replay: "recorded",
  refused: "not let in",
};

function theme(): string {
  return localStorage.getItem("covey-theme") ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark");
}

function App() {
  const [, redraw] = useReducer((n: number) => n + 1, 0);
  const { page, rest } = usePlace();
  const [look, setLook] = useState(theme());
  const [help, setHelp] = useState(false);
  document.documentElement.dataset.theme = look;

  useEffect(() => store.subscribe(() => redraw(0)), []);
  const toggle = () => {
    const next = look === "dark" ? "light" : "dark";
    localStorage.setItem("covey-theme", next);
    setLook(next);
  };
  useEffect(() => {
    let went = false;
    const keys = (event: KeyboardEvent) => {
      if (["INPUT", "SELECT"].includes((event.target as HTMLElement).tagName) || event.ctrlKey || event.metaKey || event.altKey) return;
      if (went) {
        went = false;
        const found = PAGES.find(([, , key]) => key === event.key);
        if (found) location.hash = `#/${found[0]}`;
        return;
      }
      if (event.key === "g") went = true;
      else if (event.key === "d") toggle();
      else if (event.key === "?") setHelp((shown) => !shown);
      else if (event.key === "Escape") setHelp(false);
      else if (event.key === "/") {
        event.preventDefault();
        if (!document.getElementById("search")) location.hash = "#/tasks";
        setTimeout(() => document.getElementById("search")?.focus(), 50);
      }
    };
    window.addEventListener("keydown", keys);
    return () => window.removeEventListener("keydown", keys);
  }, [look]);

  const errors = store.errors.size;
  return (
    <>
      <nav aria-label="pages">
        <a class="brand" href="#/" aria-label="covey, home">
          <svg viewBox="0 0 32 32" width="26" height="26" aria-hidden="true">
            <path d="M3 18c5-1 8-5 12-9 2 4 7 5 14 4-4 3-7 4-9 9-2 4-6 6-11 5 2-2 3-3 3-5-3 0-6-1-9-4z" />
          </svg>
          covey
        </a>
        {PAGES.map(([name, title, key]) => (
          <a key={name} href={`#/${name}`} aria-current={page === name ? "page" : undefined} title={`g ${key}`}>
            {title}
            {name === "errors" && errors > 0 && <sup>{errors}</sup>}
          </a>
        ))}
        <span class="space" />
        <span class={`link ${store.link}`} role="status" data-testid="link" title={store.problem || `events come ${store.link}`}>
          <i aria-hidden="true" /> {WORDS[store.link]}
          {store.link === "lagging" && ` ${format.seconds(store.lateSeconds)}`}
        </span>
        {store.link !== "replay" && (
          <a class="button" href="api/report" title="One file with this page and its data">
            save report
          </a>
        )}
        <button type="button" onClick={toggle} aria-label={`use the ${look === "dark" ? "light" : "dark"} theme`} title="d">
          {look === "dark" ? "☀" : "☾"}
        </button>
        <button type="button" onClick={() => setHelp(!help)} aria-label="keys" aria-expanded={help} title="?">
          ?
        </button>
      </nav>
      {store.problem && <p class="problem banner">{store.problem}</p>}
      {help && (
        <div class="help" role="dialog" aria-label="keys">
          <h2>Keys</h2>
          <dl>
            {PAGES.map(([name, title, key]) => (
              <div key={name}>
                <dt>g {key}</dt>
                <dd>{title}</dd>
              </div>
            ))}
            <div><dt>/</dt><dd>search</dd></div>
            <div><dt>d</dt><dd>dark or light</dd></div>
            <div><dt>← → + − f a</dt><dd>move and zoom the task stream, follow, show all</dd></div>
          </dl>
        </div>
      )}
      <main>
        {page === "" && <Home />}
        {page === "tasks" && (rest ? <Task name={rest} /> : <Tasks />)}
        {page === "graph" && <Graph />}
        {page === "memory" && <MemoryPage />}
        {page === "network" && <Network />}
        {page === "profile" && <Profile />}
        {page === "workers" && <WorkersPage />}
        {page === "errors" && <Errors />}
        {page === "logs" && <Logs />}
        {page === "system" && <System />}
      </main>
    </>
  );
}

document.documentElement.dataset.theme = theme();
store.start();
render(<App />, document.getElementById("app")!);
