import * as format from "../format";
import { Panel } from "../parts";
import { Plot } from "../plot";
import { store } from "../store";
import { Suspects } from "./home";

export function System() {
  const t = store.totals;
  return (
    <div class="page two">
      <Panel title="The scheduler">
        <Plot title="processor of the scheduler" height={150} format={format.percent} curves={[{ at: 8, name: "cpu", color: "accent", fill: true }]} />
        <Plot title="how late its loop is" height={150} format={format.seconds} curves={[{ at: 7, name: "late", color: "busy", fill: true }]} />
        <Plot title="tasks that wait for a slot" height={150} format={format.short} curves={[{ at: 9, name: "ready", color: "moved", fill: true }]} />
      </Panel>
      <div>
        <Suspects limit={12} />
        <Panel title="Facts">
          {t && (
            <dl>
              <dt>cluster</dt>
              <dd class="mono">{store.cluster}</dd>
              <dt>memory of the scheduler</dt>
              <dd>{format.bytes(t.scheduler_rss)}</dd>
              <dt>stretches of tasks it knows</dt>
              <dd>{format.count(t.known)}</dd>
              <dt>tasks computed again</dt>
              <dd>{format.count(t.recomputed)}</dd>
              <dt>events so far</dt>
              <dd>{format.count(t.events)}</dd>
              <dt>events that this page has missed</dt>
              <dd data-testid="dropped">{format.count(store.dropped)}</dd>
              <dt>clients</dt>
              <dd>{t.clients.join(", ")}</dd>
              <dt>memory of the dashboard</dt>
              <dd data-testid="dashboard-rss">{format.bytes(t.dashboard_rss)}</dd>
              <dt>stretches that this page draws</dt>
              <dd>{format.count(store.rects.size)} of {format.count(store.rects.total)}</dd>
            </dl>
          )}
          <p>
            <a href="api/trace">trace for Perfetto</a> · <a href="metrics">metrics for Prometheus</a>
          </p>
        </Panel>
      </div>
    </div>
  );
}
