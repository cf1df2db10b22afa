// Draws what `widget.py` says.  Everything is text: nothing a user named becomes HTML.

const STYLE = `
.covey-cluster { border: 1px solid #8884; border-left: 4px solid #0f8f7a; border-radius: 6px; padding: 8px 12px;
  font: 13px system-ui, sans-serif; max-width: 62em; color: var(--jp-ui-font-color1, inherit); }
.covey-cluster header { display: flex; gap: 1em; align-items: baseline; }
.covey-cluster header small { opacity: .65; flex: 1; }
.covey-cluster .covey-state::before { content: "●"; color: #0f8f7a; margin-right: .35em; }
.covey-cluster .covey-state[data-state=reconnecting]::before { color: #b8860b; }
.covey-cluster .covey-state[data-state=closed]::before { color: #8889; }
.covey-cluster button { font: inherit; padding: 1px 8px; border: 1px solid #8886; border-radius: 5px;
  background: transparent; color: inherit; cursor: pointer; }
.covey-cluster .covey-tiles { display: flex; flex-wrap: wrap; gap: 4px 2em; margin: 6px 0; white-space: nowrap; }
.covey-cluster .covey-tiles b { display: block; font-size: 16px; font-weight: 500; font-variant-numeric: tabular-nums; }
.covey-cluster .covey-tiles small { opacity: .65; }
.covey-cluster .covey-row { display: grid; grid-template-columns: minmax(6em, 14em) 1fr minmax(10em, auto); gap: 1em;
  align-items: center; padding: 1px 0; font-variant-numeric: tabular-nums; }
.covey-cluster .covey-row span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.covey-cluster .covey-row small { opacity: .75; text-align: right; }
.covey-cluster .covey-bar { background: #8883; border-radius: 4px; height: 8px; overflow: hidden; }
.covey-cluster .covey-bar i { display: block; height: 100%; background: #0f8f7a; }
.covey-cluster .covey-bar i.bad { background: #d55e00; }
.covey-cluster .covey-bar + .covey-bar { margin-top: 2px; height: 4px; }
.covey-cluster .covey-bad { color: #d55e00; }
.covey-cluster summary { cursor: pointer; opacity: .8; margin-top: 4px; }
`;

const SEEN_MS = 5_000;

function make(tag, text, name) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
}

function bar(share, title, bad) {
  const rail = make("div", undefined, "covey-bar");
  rail.setAttribute("role", "progressbar");
  rail.setAttribute("aria-label", title);
  rail.setAttribute("aria-valuenow", String(Math.round(100 * share)));
  rail.title = title;
  const fill = make("i", undefined, bad ? "bad" : "");
  fill.style.width = `${Math.min(100, 100 * share)}%`;
  rail.append(fill);
  return rail;
}

function row(name, bars, words) {
  const line = make("div", undefined, "covey-row");
  const middle = make("div");
  middle.append(...bars);
  const label = make("span", name);
  label.title = name;
  line.append(label, middle, make("small", words));
  return line;
}

function render({ model, el }) {
  const root = make("div", undefined, "covey-cluster");
  root.dataset.testid = "covey-cluster";
  const style = make("style", STYLE);
  const header = make("header");
  const state = make("b", "", "covey-state");
  const place = make("small");
  const button = make("button", "dashboard");
  button.type = "button";
  header.append(state, place, button);
  const tiles = make("div", undefined, "covey-tiles");
  const problems = make("div");
  const functions = make("div");
  const workers = make("details");
  const summary = make("summary", "workers");
  const lines = make("div");
  workers.append(summary, lines);
  root.append(style, header, problems, tiles, functions, workers);
  el.append(root);

  const draw = () => {
    const shown = model.get("shown");
    state.textContent = shown.status === "running" ? "covey" : `covey, ${shown.status}`;
    state.dataset.state = shown.status;
    place.textContent = shown.scheduler ?? "";
    tiles.replaceChildren(
      ...(shown.tiles ?? []).map(([value, name]) => {
        const tile = make("div");
        tile.append(make("b", value), make("small", name));
        return tile;
      }),
    );
    problems.replaceChildren(...(shown.impossible ?? []).map((text) => make("div", text, "covey-bad")));
    functions.replaceChildren(
      ...(shown.functions ?? []).map(([label, share, bad, words]) => row(label, [bar(share, `${label}: ${words}`, bad)], words)),
    );
    lines.replaceChildren(
      ...(shown.workers ?? []).map(([name, cpu, memory, words]) =>
        row(name, [bar(cpu, `processors ${Math.round(100 * cpu)}%`), bar(memory, `memory ${Math.round(100 * memory)}%`)], words),
      ),
    );
    if (shown.more) lines.append(make("small", shown.more));
    workers.hidden = !shown.workers?.length;
    button.hidden = shown.status === "closed";
  };

  const told = (message) => {
    if (!("link" in message)) return;
    button.disabled = false;
    if (!message.link) return button.replaceWith(make("small", "no dashboard: pip install 'covey[dashboard]'"));
    if (window.open(message.link, "_blank")) return;
    // The browser lets nothing open by itself that long after the click.
    const link = make("a", "open the dashboard");
    link.href = message.link;
    link.target = "_blank";
    link.onclick = () => link.replaceWith(button);
    button.replaceWith(link);
  };
  button.onclick = () => {
    button.disabled = true;
    model.send("link");
  };
  // Only what is on the screen is looked at.
  const seen = () => el.isConnected && !document.hidden && model.send("seen");
  const timer = setInterval(seen, SEEN_MS);
  model.on("change:shown", draw);
  model.on("msg:custom", told);
  draw();
  seen();
  setTimeout(seen, 200);
  return () => {
    clearInterval(timer);
    model.off("change:shown", draw);
    model.off("msg:custom", told);
  };
}

export default { render };
