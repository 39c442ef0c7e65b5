// algo: Cache, Quota, SharedMap, URLRouter, ResourcePool, Percentile, hash, uuid. Balancers are in balancers.js.
native => {
  const { seconds } = native;

  // Least recently used goes first: a Map keeps the order in which keys were put in.
  class Cache {
    #entries = new Map(); #allocate; #free; #size; #ttl;
    constructor(allocate, free, options) {
      // The older form is Cache(size, allocate, free).
      if (typeof allocate === 'number') [allocate, free, options] = [free, options, { size: allocate }];
      if (allocate && typeof allocate === 'object') [allocate, free, options] = [undefined, undefined, allocate];
      this.#allocate = allocate;
      this.#free = free;
      this.#size = options?.size ?? Infinity;
      this.#ttl = seconds(options?.ttl) * 1000 || Infinity;
    }
    #alive(key) {
      const entry = this.#entries.get(key);
      if (entry && Date.now() >= entry.until) {
        this.#entries.delete(key);
        return undefined;
      }
      return entry;
    }
    #use(key, entry) { this.#entries.delete(key); this.#entries.set(key, entry); return entry.value; }
    #put(key, value) {
      this.#entries.delete(key);
      while (this.#entries.size >= this.#size) this.remove(this.#entries.keys().next().value);
      this.#entries.set(key, { value, until: Date.now() + this.#ttl });
      return value;
    }
    get(key) {
      const entry = this.#alive(key);
      if (entry) return this.#use(key, entry);
      return this.#allocate ? this.#put(key, this.#allocate(key)) : undefined;
    }
    set(key, value) { this.#put(key, value); }
    has(key) { return this.#alive(key) !== undefined; }
    find(key) {
      const entry = this.#alive(key);
      return entry && this.#use(key, entry);
    }
    remove(key) {
      const entry = this.#entries.get(key);
      if (!entry) return false;
      this.#entries.delete(key);
      this.#free?.(key, entry.value);
      return true;
    }
    clear() { for (const key of [...this.#entries.keys()]) this.remove(key); }
  }

  class Quota {
    #bucket;
    constructor(initial, options) {
      if (typeof initial !== 'number') throw new TypeError('algo.Quota expects a number first');
      const { key, max, per, produce } = options ?? {};
      this.#bucket = native.bucket(key === undefined ? undefined : String(key), initial, max ?? undefined, seconds(per), produce ?? initial);
    }
    // For the filters that wait for it.
    __bucket() { return this.#bucket; }
    get initial() { return this.#bucket.initial(); }
    get current() { return this.#bucket.current(); }
    reset() { this.#bucket.reset(); }
    produce(amount) { this.#bucket.produce(amount ?? 1); }
    consume(amount) { return this.#bucket.consume(amount ?? 1); }
  }

  class SharedMap {
    #map;
    constructor(name) {
      if (typeof name !== 'string') throw new TypeError('algo.SharedMap expects a name');
      this.#map = native.shared(name);
    }
    get size() { return this.#map.size(); }
    clear() { this.#map.clear(); }
    delete(key) { return this.#map.remove(String(key)); }
    has(key) { return this.#map.has(String(key)); }
    get(key) {
      const text = this.#map.read(String(key));
      return text === undefined || text === null ? undefined : JSON.parse(text);
    }
    set(key, value) { this.#map.write(String(key), JSON.stringify(value ?? null)); }
    add(key, amount) { return this.#map.add(String(key), amount ?? 1); }
    sub(key, amount) { return this.#map.add(String(key), -(amount ?? 1)); }
  }

  // Hosts lead to paths; '' stands for any host.
  class URLRouter {
    #hosts = new Map();
    constructor(rules) { for (const [pattern, value] of Object.entries(rules ?? {})) this.add(pattern, value); }
    add(pattern, value) {
      const slash = pattern.indexOf('/');
      const host = pattern.slice(0, Math.max(slash, 0));
      if (slash < 0 || host.includes(':')) throw new Error(`invalid URL pattern: ${pattern}`);
      if (!this.#hosts.has(host)) this.#hosts.set(host, { exact: new Map(), prefixes: [] });
      const paths = this.#hosts.get(host);
      const path = pattern.slice(slash);
      if (path.endsWith('/*')) {
        paths.prefixes.push([path.slice(0, -1), value]);
        paths.prefixes.sort((a, b) => b[0].length - a[0].length);
      } else {
        paths.exact.set(path, value);
      }
    }
    find(...segments) {
      const url = segments.map(segment => segment ?? '').join('');
      const slash = url.indexOf('/');
      if (slash < 0) return undefined;
      const host = url.slice(0, slash).replace(/:[0-9]+$/, '');
      const path = url.slice(slash).split(/[?#]/, 1)[0];
      const dot = host.indexOf('.');
      for (const name of [host, dot > 0 ? `*${host.slice(dot)}` : undefined, '']) {
        const paths = name === undefined ? undefined : this.#hosts.get(name);
        if (!paths) continue;
        if (paths.exact.has(path)) return paths.exact.get(path);
        const found = paths.prefixes.find(([prefix]) => path.startsWith(prefix) || path === prefix.slice(0, -1));
        if (found) return found[1];
      }
      return undefined;
    }
  }

  class ResourcePool {
    #allocate; #free = new Map(); #pools = new WeakMap();
    constructor(allocate) {
      if (typeof allocate !== 'function') throw new TypeError('algo.ResourcePool expects a function');
      this.#allocate = allocate;
    }
    allocate(pool) {
      const free = this.#free.get(pool);
      const resource = free?.length ? free.pop() : Object(this.#allocate(pool));
      this.#pools.set(resource, pool);
      return resource.valueOf();
    }
    free(resource) {
      // Values that are no objects belong to the pool without a name.
      const pool = typeof resource === 'object' && resource !== null ? this.#pools.get(resource) : undefined;
      if (!this.#free.has(pool)) this.#free.set(pool, []);
      this.#free.get(pool).push(Object(resource));
    }
  }

  class Percentile {
    #bounds; #counts;
    constructor(bounds) {
      this.#bounds = [...bounds].sort((a, b) => a - b);
      this.reset();
    }
    reset() { this.#counts = this.#bounds.map(() => 0).concat(0); }
    observe(value) {
      const place = this.#bounds.findIndex(bound => value <= bound);
      this.#counts[place < 0 ? this.#bounds.length : place]++;
    }
    calculate(percentage) {
      const wanted = (this.#counts.reduce((a, b) => a + b, 0) * percentage) / 100;
      let below = 0;
      for (let i = 0; i < this.#bounds.length; i++) if ((below += this.#counts[i]) >= wanted) return this.#bounds[i];
      return Infinity;
    }
  }

  const hash = value => native.hash(value instanceof Data ? value.toString('hex') : typeof value === 'object' ? JSON.stringify(value) : `${typeof value}:${value}`);
  globalThis.algo = { Cache, Quota, SharedMap, URLRouter, ResourcePool, Percentile, hash, uuid: () => native.uuid() };
}
