/** The rectangles of the task stream in flat arrays: a hundred thousand cost 4 MB. */

import type { Rect } from "./types";

export const CAPACITY = 100_000;

export class Rects {
  readonly start = new Float64Array(CAPACITY);
  readonly stop = new Float64Array(CAPACITY);
  readonly lane = new Uint32Array(CAPACITY);
  readonly label = new Uint32Array(CAPACITY);
  readonly tasks = new Uint32Array(CAPACITY);
  readonly how = new Uint8Array(CAPACITY);
  readonly bytes = new Float64Array(CAPACITY);
  readonly task: string[] = [];
  readonly labels: string[] = [];
  readonly lanes: { worker: string; slot: number }[] = [];
  /** How many were added in all; rectangle n lies at n % CAPACITY. */
  total = 0;
  private readonly labelNumbers = new Map<string, number>();
  private readonly laneNumbers = new Map<string, number>();

  get size(): number {
    return Math.min(this.total, CAPACITY);
  }

  clear(): void {
    this.total = 0;
    this.labels.length = this.lanes.length = this.task.length = 0;
    this.labelNumbers.clear();
    this.laneNumbers.clear();
  }

  laneOf(worker: string, slot: number): number {
    const name = `${worker}\n${slot}`;
    let number = this.laneNumbers.get(name);
    if (number === undefined) {
      number = this.lanes.length;
      this.laneNumbers.set(name, number);
      this.lanes.push({ worker, slot });
    }
    return number;
  }

  private labelOf(label: string): number {
    let number = this.labelNumbers.get(label);
    if (number === undefined) {
      number = this.labels.length;
      this.labelNumbers.set(label, number);
      this.labels.push(label);
    }
    return number;
  }

  add(rects: Rect[]): void {
    for (const [worker, slot, start, stop, label, tasks, how, task, bytes] of rects) {
      const at = this.total++ % CAPACITY;
      this.start[at] = start;
      this.stop[at] = stop;
      this.lane[at] = this.laneOf(worker, slot);
      this.label[at] = this.labelOf(label);
      this.tasks[at] = tasks;
      this.how[at] = how;
      this.bytes[at] = bytes;
      this.task[at] = task;
    }
  }
}
