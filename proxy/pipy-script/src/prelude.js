// What scripts see of pipy that is best said in their own language: the events, and the builders that record pipelines.
// Recorded pipelines are plain objects; layout.rs reads them when all files are loaded.
//
// `native` is what the engine gives: { filters: [[name, joint]], load(path), Data }. INVARIANT: nothing here runs per event
// but the constructors of events.
(native) => {
  const state = { c: [null], init: [null], modules: [], layouts: [], current: null };
  state.init = state.c;
  state.r = (context, value) => ((state.c = context), value);

  // A callback of a promise runs in the context in which it was given.
  const then = Promise.prototype.then;
  const within = (context, callback) =>
    typeof callback === 'function' ? value => ((state.c = context), callback(value)) : callback;
  Promise.prototype.then = function (done, failed) {
    const context = state.c;
    return then.call(this, within(context, done), within(context, failed));
  };

  // What older scripts mean by these names; see rewrite/dialect.rs. What such a script makes is a Map and an Error elsewhere, too.
  const like = (made, plain) =>
    Object.defineProperty(made, Symbol.hasInstance, { value: value => value instanceof plain });
  state.Map = like(class extends Map {
    forEach(callback) { super.forEach((value, key) => callback(key, value, this)); }
  }, Map);
  state.Error = like(function (message, cause) {
    return cause instanceof Error ? new Error(message, { cause }) : new Error(message);
  }, Error);
  const digits = (text, radix) => text !== '' && [...text].every(digit => !isNaN(parseInt(digit, radix)));
  state.Number = {
    // The whole of the text is a number, or it is none.
    parseInt(value, radix) {
      const text = String(value).trim().replace(/^[+-]/, '');
      const hexadecimal = /^0x/i.test(text) && (radix === undefined || radix === 16);
      const whole = hexadecimal ? digits(text.slice(2), 16) : digits(text, radix ?? 10);
      return whole || typeof value === 'number' ? parseInt(value, radix) : NaN;
    },
  };

  const { Data, textToData } = native;
  const toData = body => (body === undefined || body === null || body instanceof Data ? body ?? null : new Data(String(body)));

  class MessageStart { constructor(head) { this.head = head ?? {}; } }
  class MessageEnd {
    constructor(tail, payload) {
      if (tail !== undefined) this.tail = tail;
      if (payload !== undefined) this.payload = payload;
    }
  }
  class StreamEnd { constructor(error) { this.error = error; } }
  class Message {
    constructor(head, body, tail, payload) {
      // `new Message('text')` and `new Message(data)` have a body only. Asking for `arguments` would make them each time.
      if (body === undefined && tail === undefined && (typeof head !== 'object' || head instanceof Data)) {
        body = head;
        head = undefined;
      }
      // What is neither text nor bytes is a value that an encoder understands, not a body.
      if (typeof body === 'object' && body !== null && !(body instanceof Data)) {
        payload ??= body;
        body = null;
      }
      this.head = head ?? {};
      this.body = typeof body === 'string' ? textToData(body) : toData(body);
      if (tail !== undefined) this.tail = tail;
      if (payload !== undefined) this.payload = payload;
    }
  }
  // Most have neither, and each property of an object's own costs its making.
  for (const { prototype } of [MessageEnd, Message]) Object.assign(prototype, { tail: undefined, payload: undefined });

  // How the engine tells events apart where their prototypes do not say it.
  state.kind = value => {
    if (value === undefined || value === null) return 0;
    if (value instanceof Data) return 1;
    if (value instanceof MessageStart) return 2;
    if (value instanceof MessageEnd) return 3;
    if (value instanceof StreamEnd) return 4;
    if (value instanceof Message) return 5;
    return Array.isArray(value) ? 6 : 7;
  };

  const placeOf = () => {
    const lines = (new Error().stack ?? '').split('\n');
    return lines.find(line => line.includes('(/') || line.includes('at /'))?.trim() ?? '';
  };

  const newLayout = (module, kind, name) => {
    const layout = { id: state.layouts.length, module, kind, name, filters: [], onStart: null, onEnd: null };
    state.layouts.push(layout);
    return layout;
  };

  const inline = (module, build) => {
    const layout = newLayout(module, 'inline', '');
    const builder = new PipelineBuilder(module, layout);
    build(builder);
    builder.complete();
    return layout;
  };

  // What a target says: a function that builds, a template, a name, or nothing.
  const target = (module, to) =>
    typeof to === 'function' ? inline(module, to) : to instanceof Template ? to.layout : to;

  // Functions in lists and maps of pipelines build them.
  const built = (module, value) => {
    const build = inner => (typeof inner === 'function' ? inline(module, inner) : inner);
    if (Array.isArray(value)) return value.map(build);
    if (value === null || typeof value !== 'object' || Object.getPrototypeOf(value) !== Object.prototype) return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, build(inner)]));
  };

  // Templates, alone or in lists and maps, stand for their layouts.
  const layoutsIn = value => {
    if (value instanceof Template) return value.layout;
    if (Array.isArray(value)) return value.map(layoutsIn);
    if (value === null || typeof value !== 'object' || Object.getPrototypeOf(value) !== Object.prototype) return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, layoutsIn(inner)]));
  };

  class Builder {
    constructor(module, layout) { this.module = module; this.layout = layout; this.open = null; }

    complete() {
      if (this.open) throw new Error(`missing .to(...) for the last filter: ${this.open.name}`);
    }

    add(name, args, joint) {
      if (!this.layout) throw new Error(`no pipeline found for ${name}()`);
      this.complete();
      if (name === 'pipe') args = args.map((value, index) => layoutsIn(index < 2 ? built(this.module, value) : value));
      const filter = { name, args, to: undefined, at: placeOf() };
      this.layout.filters.push(filter);
      if (name === 'loop' && args.length > 0) {
        filter.to = target(this.module, args.shift());
      } else if (joint === 'to') {
        // The oldest style names the target in the first argument.
        if (typeof args[0] === 'string' && native.named.includes(name)) {
          filter.to = args.shift();
          this.optional = filter;
          return this;
        }
        this.open = filter;
      } else if (joint === 'branches') {
        filter.args = args.map((value, index) => {
          const branch = index % 2 === 1 || index === args.length - 1;
          return branch && typeof value === 'function' ? inline(this.module, value) : value instanceof Template ? value.layout : value;
        });
      } else if (joint === 'optional') {
        this.optional = filter;
        return this;
      }
      this.optional = null;
      return this;
    }

    to(where) {
      const filter = this.open ?? this.optional;
      if (!filter) throw new Error('calling to() without a joint-filter');
      // With a `.to()` behind it, a first argument that is text was no pipeline's name.
      if (filter.to !== undefined) filter.args.unshift(filter.to);
      filter.to = target(this.module, where);
      this.open = this.optional = null;
      return this;
    }

    onStart(callback) { this.need('onStart'); this.layout.onStart = callback; return this; }
    onEnd(callback) { this.need('onEnd'); this.layout.onEnd = callback; return this; }
    need(name) { if (!this.layout) throw new Error(`no pipeline found for ${name}()`); }
  }

  for (const [name, joint] of native.filters) {
    Builder.prototype[name] = function (...args) { return this.add(name, args, joint); };
  }

  class PipelineBuilder extends Builder {}
  // A misspelt filter is told with the nearest name.
  const unknown = (known) => new Proxy({}, {
    get(_, name, self) {
      if (typeof name === 'symbol' || name === 'then' || name === 'toJSON') return undefined;
      throw new TypeError(`no filter or method is called ${name}${native.nearest(name)}`);
    },
  });
  Object.setPrototypeOf(Builder.prototype, unknown());

  // What a task may run at.
  const signals = ['HUP', 'INT', 'QUIT', 'TERM', 'ALRM', 'CHLD', 'CONT', 'TSTP', 'TTIN', 'TTOU', 'URG', 'WINCH', 'XCPU',
    'XFSZ', 'VTALRM', 'PROF', 'IO'].map(name => `SIG${name}`);

  // What is listened on: at first what a script says as it is loaded, then what it changes.
  const listen = (where, options, layout) => {
    if (!state.begun) {
      state.listen = state.listen.filter(known => String(known.where) !== String(where) || known.options.protocol !== options.protocol);
      if (layout) state.listen.push({ where, options, layout });
      return;
    }
    state.ports.push({ where, options, layout: layout?.id });
    native.changed();
  };
  state.ports = [];
  state.takePorts = () => state.ports.splice(0);

  // Ports that change while a script runs; what is given for all of them, and for each.
  class ListenerArray {
    #ports = new Map(); #served = []; #options;
    constructor(ports = [], options = {}) { this.#options = options; this.set(ports); }
    #entry(port) {
      const { port: given, ...options } = port !== null && typeof port === 'object' ? port : { port };
      const key = String(given);
      if (!/^(?:.*:)?\d+$/.test(key)) throw new TypeError(`ListenerArray: '${key}' is no port: 8080, '8080' and '127.0.0.1:8080' are`);
      return [key, options];
    }
    #tell(port, own, gone) {
      for (const { layout, options } of this.#served) listen(port, { ...this.#options, ...options, ...own }, gone ? null : layout);
    }
    set(ports) {
      const wanted = new Map(ports.map(port => this.#entry(port)));
      for (const port of [...this.#ports.keys()]) if (!wanted.has(port)) this.remove(port);
      for (const [port, options] of wanted) if (!this.#ports.has(port)) this.add(port, options);
    }
    add(port, options = {}) {
      const [key, own] = this.#entry(port);
      this.#ports.set(key, { ...own, ...options });
      this.#tell(key, this.#ports.get(key), false);
    }
    remove(port) {
      const [key] = this.#entry(port);
      const own = this.#ports.get(key);
      if (own && this.#ports.delete(key)) this.#tell(key, own, true);
    }
    serve(layout, options = {}) {
      this.#served.push({ layout, options });
      for (const [port, own] of this.#ports) listen(port, { ...this.#options, ...options, ...own }, layout);
    }
  }

  class Configuration extends Builder {
    constructor(module) { super(module, null); module.configuration = this; this.entrance = null; }
    begin(kind, name, options) {
      this.complete();
      this.layout = newLayout(this.module, kind, name);
      this.layout.options = options;
      return this;
    }
    export(namespace, variables) {
      if (!namespace) throw new Error('an empty namespace');
      return this.initial(variables);
    }
    import() { return this; }
    initial(variables) {
      const values = typeof variables === 'function' ? variables() : variables;
      for (const name of Object.keys(values ?? {})) state.init[this.module.slots[name]] = values[name];
      return this;
    }
    listen(where, options) {
      if (!(where instanceof ListenerArray)) return this.begin('listen', where, options);
      this.begin('ports', '');
      where.serve(this.layout, options);
      return this;
    }
    task(when) {
      const text = String(when ?? '');
      const units = { ms: 1, s: 1000, m: 60000, h: 3600000 };
      const [, count, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text) ?? [];
      if (text.startsWith('SIG')) {
        if (!signals.includes(text)) throw new Error(`invalid signal name: ${text}`);
      } else if (text !== '' && unit === undefined) {
        throw new Error(`task interval '${text}' is none: 10ms, 5s, 1m and 24h are`);
      } else if (text !== '' && !(count * units[unit] >= 10 && count * units[unit] <= 86400000)) {
        throw new Error(`task interval out of range: '${text}' is not within 10ms and 24h`);
      }
      return this.begin('task', text);
    }
    watch(path) { return this.begin('watch', path); }
    exit() { return this.begin('exit', ''); }
    admin(prefix) { return this.begin('admin', prefix); }
    pipeline(name) {
      if (name === undefined && this.module.entrance) throw new Error('more than one entrance pipelines');
      this.begin('pipeline', name ?? '');
      if (name === undefined) this.module.entrance = this.layout;
      else this.module.named[name] = this.layout;
      return this;
    }
    repeat(count, build) {
      if (this.layout && typeof count === 'function') return this.add('repeat', [count], 'to');
      const items = typeof count === 'number' ? Array.from({ length: count }, (_, i) => i) : count;
      items.forEach((item, index) => build(this, item, index));
      return this;
    }
    branch(...args) {
      if (this.layout && (typeof args[0] === 'function' || args.length < 2)) return this.add('branch', args, 'branches');
      for (let i = 0; i < args.length; i += 2) {
        const last = i === args.length - 1;
        if (last || args[i]) { (last ? args[i] : args[i + 1])(this); return this; }
      }
      return this;
    }
  }

  // Where `swap` filters meet; who is there the engine knows.
  class Hub {}

  const request = what => {
    state.requests.push(what);
    native.changed();
  };
  class Template {
    constructor(layout) { this.layout = layout; }
    // Runs a pipeline of its own; the promise is that of what its onEnd returns.
    spawn(...args) {
      return new Promise((done, failed) => { request({ layout: this.layout.id, args, done, failed }); });
    }
    // Gives a pipeline of its own events, those that a function gives until it gives none, or those of a hub. The promise is that of
    // what its onEnd returns, or else of the events that come out.
    async process(given) {
      if (given instanceof Hub) {
        const { layout } = this;
        return new Template(inline(layout.module, $ => $.loop($ => $.swap(() => given).pipe(new Template(layout))))).spawn();
      }
      const input = [];
      if (typeof given === 'function') {
        for (let event = await given(); event !== undefined && event !== null; event = await given()) {
          input.push(...[event].flat());
          if (event instanceof StreamEnd) break;
        }
      } else {
        input.push(...[given ?? []].flat());
      }
      if (!(input.at(-1) instanceof StreamEnd)) input.push(new StreamEnd());
      const layout = this.#heard();
      const taken = layout.onEnd ? value => value : () => came.get(state.c) ?? [];
      return new Promise((done, failed) => { request({ layout: layout.id, args: [], input, done: value => done(taken(value)), failed }); });
    }
    #kept;
    // The same pipeline, with what comes out of it noted by context.
    #heard() {
      if (this.#kept) return this.#kept;
      const { module, onStart, onEnd, filters } = this.layout;
      const note = event => { came.has(state.c) ? came.get(state.c).push(event) : came.set(state.c, [event]); };
      this.#kept = Object.assign(newLayout(module, 'inline', ''), { onStart, onEnd });
      this.#kept.filters = [...filters, { name: 'handle', args: [note], to: undefined, at: '' }];
      return this.#kept;
    }
  }
  const came = new WeakMap();
  state.requests = [];
  state.solving = new Set();
  state.take = () => state.requests.splice(0);

  state.module = (id, filename, slots) => {
    const module = { id, filename, slots, named: {}, entrance: null, configuration: null, result: undefined };
    module.pipeline = build => new Template(inline(module, build));
    module.pipeline.Hub = Hub;
    module.pipy = variables => {
      const configuration = new Configuration(module);
      return variables === undefined ? configuration : configuration.initial(variables);
    };
    Object.setPrototypeOf(module.pipy, native.pipy);
    // What the newer style calls as a method of `pipy`.
    module.pipy.listen = (where, ...rest) => {
      const build = rest.pop();
      const options = rest.find(value => value && typeof value === 'object') ?? {};
      const protocol = rest.find(value => typeof value === 'string');
      const layout = build === null || build === undefined ? null : target(module, build);
      if (layout !== null && typeof layout !== 'object') throw new TypeError('pipy.listen() expects a pipeline, or null to listen no more');
      if (where instanceof ListenerArray) where.serve(layout, protocol ? { ...options, protocol } : options);
      else listen(where, protocol ? { ...options, protocol } : options, layout);
    };
    const { exit } = native.pipy;
    module.pipy.exit = what => (typeof what === 'function' ? void state.leaving.push(what) : exit(what ?? 0));
    module.pipy.solve = path => {
      if (state.solving.has(path)) throw new Error(`recursive solve() of ${path}`);
      state.solving.add(path);
      try { return state.modules[native.solve(String(path))].result; } finally { state.solving.delete(path); }
    };
    module.pipy.import = path => native.import(filename, String(path));
    // Gives a file to a pipeline; the promise is kept when that has ended.
    module.pipy.read = (path, build, argument) => new Promise((done, failed) => {
      const data = os.read(String(path));
      if (data === null) { failed(new Error(`pipy.read(): cannot open ${path}`)); return; }
      const reader = module.pipeline($ => $
        .onStart(() => [data, new StreamEnd()])
        .pipe(build instanceof Template ? build : new Template(inline(module, build)), () => [argument]));
      reader.spawn().then(done, failed);
    });
    module.pipy.fork = callback => { request({ callback }); };
    module.pipy.source = filename;
    const missing = new Proxy({}, {
      get(_, name) {
        if (typeof name === 'symbol') return undefined;
        if (name in globalThis) return globalThis[name];
        throw new ReferenceError(`unresolved identifier '${name}'${native.similar(name, Object.keys(module.slots))}`);
      },
      set(_, name) {
        throw new ReferenceError(`unresolved identifier '${String(name)}'${native.similar(String(name), Object.keys(module.slots))}`);
      },
    });
    Object.setPrototypeOf(module, missing);
    state.modules[id] = module;
    globalThis[`__m${id}`] = module;
    return module;
  };
  // The files that filters name, each with the file that names it.
  state.files = () => state.layouts.flatMap(layout => layout.filters
    .filter(filter => filter.name === 'use' || filter.name === 'chain')
    .flatMap(filter => [filter.args[0] ?? []].flat().map(name => [layout.module.filename, String(name)])));
  // What a name that nothing has may have been meant for: among the members of its owner, or of all that scripts are given.
  const membersOf = value => {
    const names = new Set();
    for (let at = Object(value); at && at !== Object.prototype && at !== Function.prototype; at = Object.getPrototypeOf(at)) {
      for (const name of Reflect.ownKeys(at)) if (typeof name === 'string') names.add(name);
    }
    return [...names];
  };
  const classes = holder => Object.values(Object.getOwnPropertyDescriptors(holder))
    .map(property => property.value).filter(value => typeof value === 'function' && value.prototype);
  state.members = (id, owner, name) => {
    const [first, ...path] = owner.split('.');
    const known = first === 'pipy' ? state.modules[id]?.pipy : /^\w+$/.test(first) ? globalThis[first] : undefined;
    const found = path.reduce((value, part) => value?.[part], known);
    if (found !== undefined && found !== null) return native.similar(name, membersOf(found));
    if (owner === '') return native.similar(name, Object.keys(globalThis));
    const holders = ['crypto', 'algo', 'stats', 'logging', 'http']
      .map(holder => Object.getOwnPropertyDescriptor(globalThis, holder)?.value).filter(Boolean);
    const all = [globalThis, ...holders].flatMap(classes).flatMap(made => Object.getOwnPropertyNames(made.prototype));
    return native.similar(name, [...new Set(all)]);
  };
  // How objects are shown that have no properties of their own.
  state.shown = value => {
    const list = items => `{${items.length ? ` ${items.join(', ')} ` : ''}}`;
    const text = item => (typeof item === 'string' ? JSON.stringify(item) : String(item));
    if (value instanceof Map) return `Map ${list([...value].map(([key, item]) => `${text(key)} => ${text(item)}`))}`;
    if (value instanceof Set) return `Set ${list([...value].map(text))}`;
    return value.toString === Object.prototype.toString ? undefined : String(value);
  };
  const identities = new WeakMap();
  let identified = 0;
  state.identity = value => {
    if (value === null || (typeof value !== 'object' && typeof value !== 'function')) return `${typeof value} ${value}`;
    if (!identities.has(value)) identities.set(value, ++identified);
    return `object ${identities.get(value)}`;
  };
  state.layoutOf = value => (value instanceof Template ? value.layout.id : -1);
  state.isHub = value => value instanceof Hub;
  state.listen = [];
  // The script is at work on this worker: what it watches is watched from now on.
  state.begin = () => {
    state.begun = true;
    for (const layout of state.layouts.filter(layout => layout.kind === 'watch')) {
      const again = () => native.pipy.watch(String(layout.name)).then(() => {
        request({ layout: layout.id, args: [], done() {}, failed() {} });
        again();
      });
      again();
    }
  };
  // What is to be done before the end; gives how much of it is not over.
  state.leaving = [];
  state.leave = () => {
    if (state.open === undefined) {
      state.open = state.leaving.length;
      for (const callback of state.leaving) {
        state.c = state.init.slice();
        const over = () => { state.open--; };
        // One that fails is over, too; the log says why.
        new Promise(done => done(callback())).finally(over);
      }
    }
    return state.open;
  };
  state.isConfiguration = value => value instanceof Configuration;
  // Functions that take the place of statements in the older style.
  const call = (value, ...args) => (typeof value === 'function' ? value(...args) : value);
  const branch = (...args) => {
    for (let i = 0; i + 1 < args.length; i += 2) if (call(args[i])) return call(args[i + 1]);
    return args.length % 2 ? call(args[args.length - 1]) : undefined;
  };
  const select = (value, ...args) => {
    for (let i = 0; i + 1 < args.length; i += 2) if (args[i] === value) return call(args[i + 1], value);
    return args.length % 2 ? call(args[args.length - 1], value) : undefined;
  };
  const repeat = (over, callback) => {
    const each = typeof over === 'function' ? over : callback;
    const items = Array.isArray(over) ? over : null;
    const count = typeof over === 'function' ? Infinity : items ? items.length : over;
    for (let i = 0; i < count; i++) {
      const value = items ? each(items[i], i) : each(i);
      if (value !== undefined) return value;
    }
  };
  const invoke = (callback, caught) => {
    try { return callback(); } catch (error) { caught?.(String(error?.message ?? error)); }
  };

  // Timers; what they call finds the context in which they were set.
  const bound = callback => {
    const context = state.c;
    return () => ((state.c = context), callback());
  };
  const setTimeout = (callback, milliseconds = 0, ...args) =>
    native.timer(milliseconds / 1000, bound(() => callback(...args)));
  const clearTimeout = id => { if (id !== undefined) native.cancel(id); };
  class Timeout {
    #seconds; #timer; #settle;
    constructor(seconds) { this.#seconds = native.seconds(seconds); }
    wait() { return new Promise(settle => { this.#settle = settle; this.restart(); }); }
    restart(seconds) {
      clearTimeout(this.#timer);
      if (seconds !== undefined) this.#seconds = native.seconds(seconds);
      this.#timer = native.timer(this.#seconds, () => this.#settle?.());
    }
    cancel() { clearTimeout(this.#timer); this.#settle?.(); }
  }

  JSON.encode ??= (value, replacer, indent) => new Data(JSON.stringify(value, replacer, indent) ?? '');
  JSON.decode ??= (data, reviver) => JSON.parse(data.toString(), reviver);
  Object.assign(globalThis, {
    branch, select, repeat, invoke, setTimeout, clearTimeout, Timeout, ListenerArray, Swap: Hub, __thread: native.thread,
  });
  Object.assign(globalThis, { __pipy: state, Data, Message, MessageStart, MessageEnd, StreamEnd });
  return state;
}
