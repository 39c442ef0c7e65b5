// What the builders recorded, as a graph for people to look at. `t` is root, filter, joint (a filter that leads on) or link.
state => {
  const nodes = [];
  const roots = [];
  const add = (name, t, p) => {
    nodes.push({ name, t, c: [], ...(p === undefined ? {} : { p }) });
    if (p !== undefined) nodes[p].c.push(nodes.length - 1);
    return nodes.length - 1;
  };
  const isLayout = value => value !== null && typeof value === 'object' && Array.isArray(value.filters) && 'kind' in value;
  const open = new Set();
  const fill = (layout, at) => {
    // A pipeline that leads to itself is shown once.
    if (open.has(layout)) return;
    open.add(layout);
    for (const filter of layout.filters) {
      const targets = [filter.to, ...filter.args].filter(value => isLayout(value));
      const named = [filter.to].filter(value => typeof value === 'string');
      const node = add(filter.name, targets.length || named.length ? 'joint' : 'filter', at);
      for (const target of targets) fill(target, add('', 'pipeline', node));
      for (const name of named) add(name, 'link', node);
    }
    open.delete(layout);
  };
  const root = (layout, name) => {
    roots.push(nodes.length);
    fill(layout, add(name, 'root'));
  };
  for (const layout of state.layouts) {
    if (layout.kind === 'inline') continue;
    const what = layout.kind === 'pipeline' ? 'Pipeline' : layout.kind === 'listen' ? 'Listen on' : layout.kind[0].toUpperCase() + layout.kind.slice(1);
    root(layout, `${what} ${layout.name || '(entrance)'}`.trim());
  }
  for (const { where, layout } of state.listen) if (layout) root(layout, `Listen on ${where}`);
  return JSON.stringify({ roots, nodes });
}
