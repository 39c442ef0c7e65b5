// stats: counters, gauges and histograms, one registry for all workers.
native => {
  const { stats } = native;
  const labelled = (base, kind) => class Metric extends base {
    #name; #labels; #values; #known = new Map();
    constructor(name, labels, values, set) {
      super();
      [this.#name, this.#labels, this.#values] = [name, labels, values];
      if (set) this.set = set;
    }
    get name() { return this.#name; }
    get type() { return kind; }
    get dimensions() { return this.#labels.length; }
    get label() { return this.#labels[this.#values.length - 1]; }
    get values() { return [...this.#values]; }
    submetrics() {
      const depth = this.#values.length;
      const known = stats.samples(this.#name).filter(values => values.length > depth && this.#values.every((value, i) => values[i] === value));
      return [...new Set(known.map(values => values[depth]))].map(value => this.withLabels(value));
    }
    get value() { return stats.read(this.#name, this.#values); }
    valueOf() { return this.value; }
    where(amount, act) { act(this.#name, this.#values, amount); }
    withLabels(...more) {
      const key = more.join('\u0000');
      if (!this.#known.has(key)) {
        const values = [...this.#values, ...more.map(String)].slice(0, this.#labels.length);
        while (values.length < this.#labels.length && this.#values.length === 0 && more.length === 0) values.push('');
        this.#known.set(key, new Metric(this.#name, this.#labels, values));
      }
      return this.#known.get(key);
    }
    clear() { stats.forget(this.#name); this.#known.clear(); }
    percentile(percentage) { return stats.percentile(this.#name, this.#values, percentage); }
  };
  const CounterBase = labelled(class {
    zero() { this.where(0, stats.set); }
    increase(amount) { this.where(amount ?? 1, stats.add); }
  }, 'Counter');
  const GaugeBase = labelled(class {
    zero() { this.where(0, stats.set); }
    set(value) { this.where(value, stats.set); }
    increase(amount) { this.where(amount ?? 1, stats.add); }
    decrease(amount) { this.where(-(amount ?? 1), stats.add); }
  }, 'Gauge');
  const HistogramBase = labelled(class {
    zero() { this.where(0, stats.set); }
    observe(value) { this.where(value, stats.observe); }
  }, 'Histogram');
  const list = labels => (Array.isArray(labels) ? labels.map(String) : []);
  class Counter extends CounterBase {
    constructor(name, labels) {
      stats.define('counter', name, list(labels), []);
      super(name, list(labels), []);
      all.set(name, this);
    }
  }
  const collectors = [];
  const all = new Map();
  class Gauge extends GaugeBase {
    constructor(name, labels, collect) {
      if (typeof labels === 'function') [labels, collect] = [[], labels];
      stats.define('gauge', name, list(labels), []);
      super(name, list(labels), []);
      all.set(name, this);
      // A gauge that nobody asks for costs nothing.
      if (typeof collect === 'function') collectors.push(() => collect(this));
    }
  }
  class Histogram extends HistogramBase {
    constructor(name, bounds, labels) {
      if (!Array.isArray(bounds) || bounds.length === 0) throw new TypeError('stats.Histogram expects buckets');
      stats.define('histogram', name, list(labels), bounds.filter(Number.isFinite).sort((a, b) => a - b));
      super(name, list(labels), []);
      all.set(name, this);
    }
  }
  // `page` is what /metrics shows.
  globalThis.stats = {
    Counter, Gauge, Histogram,
    page: () => stats.page(),
    // One registry is for all workers: what is asked for is there.
    sum: async names => Object.fromEntries((names ?? [...all.keys()]).filter(name => all.has(name)).map(name => [name, all.get(name)])),
  };
  __pipy.collect = () => {
    for (const collect of collectors) {
      try { collect(); } catch (error) { native.problem(`stats.Gauge: ${error.message}`); }
    }
  };
}
