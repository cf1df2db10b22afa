/** Where the nodes of a graph are drawn. */

/** Layers by the longest way from an input; within a layer as near to inputs as may be. */
export function layout(ids: string[], needs: Map<string, string[]>): Map<string, [number, number]> {
  const depth = new Map<string, number>();
  const visit = (id: string, path: Set<string>): number => {
    const known = depth.get(id);
    if (known !== undefined) return known;
    if (path.has(id)) return 0;
    path.add(id);
    let deep = 0;
    for (const need of needs.get(id) ?? []) deep = Math.max(deep, visit(need, path) + 1);
    path.delete(id);
    depth.set(id, deep);
    return deep;
  };
  const layers: string[][] = [];
  for (const id of ids) (layers[visit(id, new Set())] ??= []).push(id);
  const places = new Map<string, [number, number]>();
  layers.forEach((layer, column) => {
    const middle = (id: string) => {
      const found = (needs.get(id) ?? []).map((need) => places.get(need)?.[1]).filter((y) => y !== undefined);
      return found.length ? found.reduce((a, b) => a + b, 0) / found.length : Number.MAX_VALUE;
    };
    const order = column ? [...layer].sort((a, b) => middle(a) - middle(b)) : layer;
    order.forEach((id, row) => places.set(id, [column, row - (order.length - 1) / 2]));
  });
  return places;
}
