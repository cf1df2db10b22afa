/** A profile as boxes: how wide, how deep, and which frame. */

export interface ProfileAnswer {
  names: string[];
  /** The time that was seen in no frame, then parent, name and microseconds of each node. */
  nodes: number[];
  subjects: [worker: string, label: string, seconds: number][];
  status: string;
}

export interface Box {
  /** Which node it is; 0 is everything. */
  node: number;
  parent: number;
  name: number;
  depth: number;
  /** Microseconds: where it begins, its own and all below it. */
  from: number;
  self: number;
  total: number;
}

export function boxesOf(answer: Pick<ProfileAnswer, "names" | "nodes">): Box[] {
  const { nodes } = answer;
  const count = (nodes.length - 1) / 3 + 1;
  const boxes: Box[] = [{ node: 0, parent: -1, name: -1, depth: 0, from: 0, self: nodes[0] ?? 0, total: nodes[0] ?? 0 }];
  for (let at = 1; at < count; at++) {
    const [parent, name, self] = [nodes[3 * at - 2], nodes[3 * at - 1], nodes[3 * at]];
    boxes.push({ node: at, parent, name, depth: boxes[parent].depth + 1, from: 0, self, total: self });
  }
  for (let at = count - 1; at > 0; at--) boxes[boxes[at].parent].total += boxes[at].total;
  const below: Box[][] = boxes.map(() => []);
  for (const box of boxes.slice(1)) below[box.parent].push(box);
  const arrange = (box: Box) => {
    let from = box.from;
    // In the order of their names: so a frame stays where it is as time goes on.
    for (const child of below[box.node].sort((a, b) => answer.names[a.name].localeCompare(answer.names[b.name]))) {
      child.from = from;
      from += child.total;
      arrange(child);
    }
  };
  arrange(boxes[0]);
  return boxes;
}

export interface Frame {
  function: string;
  file: string;
  line: string;
}

export function frameOf(name: string): Frame {
  const [what = "", file = "", line = ""] = name.split("\t");
  return { function: what, file, line };
}

export function placeOf({ file, line }: Frame): string {
  return file ? `${file.split("/").slice(-2).join("/")}:${line}` : "";
}

/** What took longest by itself, whoever called it. */
export function hottest(answer: ProfileAnswer): { name: string; self: number; total: number }[] {
  const found = new Map<number, { name: string; self: number; total: number }>();
  const boxes = boxesOf(answer);
  for (const box of boxes.slice(1)) {
    const line = found.get(box.name) ?? { name: answer.names[box.name], self: 0, total: 0 };
    line.self += box.self;
    // A function that calls itself counts once.
    let above = box.parent;
    while (above > 0 && boxes[above].name !== box.name) above = boxes[above].parent;
    if (above <= 0) line.total += box.total;
    found.set(box.name, line);
  }
  return [...found.values()];
}
