// bpf: programs for the kernel from object files, and the maps that they share with scripts.
//
// Keys and values are objects in the layout that the object file says; Data where it says none. A plain number is { i: number }.
native => {
  const call = native.bpf;
  const PROGRAMS = [
    'UNSPEC', 'SOCKET_FILTER', 'KPROBE', 'SCHED_CLS', 'SCHED_ACT', 'TRACEPOINT', 'XDP', 'PERF_EVENT', 'CGROUP_SKB', 'CGROUP_SOCK', 'LWT_IN',
    'LWT_OUT', 'LWT_XMIT', 'SOCK_OPS', 'SK_SKB', 'CGROUP_DEVICE', 'SK_MSG', 'RAW_TRACEPOINT', 'CGROUP_SOCK_ADDR', 'LWT_SEG6LOCAL', 'LIRC_MODE2',
    'SK_REUSEPORT', 'FLOW_DISSECTOR', 'CGROUP_SYSCTL', 'RAW_TRACEPOINT_WRITABLE', 'CGROUP_SOCKOPT', 'TRACING', 'STRUCT_OPS', 'EXT', 'LSM', 'SK_LOOKUP',
    'SYSCALL', 'NETFILTER',
  ].map(name => `BPF_PROG_TYPE_${name}`);
  const ATTACH = [
    'CGROUP_INET_INGRESS', 'CGROUP_INET_EGRESS', 'CGROUP_INET_SOCK_CREATE', 'CGROUP_SOCK_OPS', 'SK_SKB_STREAM_PARSER', 'SK_SKB_STREAM_VERDICT',
    'CGROUP_DEVICE', 'SK_MSG_VERDICT', 'CGROUP_INET4_BIND', 'CGROUP_INET6_BIND', 'CGROUP_INET4_CONNECT', 'CGROUP_INET6_CONNECT',
    'CGROUP_INET4_POST_BIND', 'CGROUP_INET6_POST_BIND', 'CGROUP_UDP4_SENDMSG', 'CGROUP_UDP6_SENDMSG', 'LIRC_MODE2', 'FLOW_DISSECTOR', 'CGROUP_SYSCTL',
    'CGROUP_UDP4_RECVMSG', 'CGROUP_UDP6_RECVMSG', 'CGROUP_GETSOCKOPT', 'CGROUP_SETSOCKOPT', 'TRACE_RAW_TP', 'TRACE_FENTRY', 'TRACE_FEXIT',
    'MODIFY_RETURN', 'LSM_MAC', 'TRACE_ITER', 'CGROUP_INET4_GETPEERNAME', 'CGROUP_INET6_GETPEERNAME', 'CGROUP_INET4_GETSOCKNAME',
    'CGROUP_INET6_GETSOCKNAME', 'XDP_DEVMAP', 'CGROUP_INET_SOCK_RELEASE', 'XDP_CPUMAP', 'SK_LOOKUP', 'XDP',
  ].map(name => `BPF_${name}`);
  // As the reference says it, besides.
  const ALIASES = { BPF_PROG_TYPE_SOCK_ADDR: 'BPF_PROG_TYPE_CGROUP_SOCK_ADDR' };
  const UPDATES = { BPF_ANY: 0, BPF_NOEXIST: 1, BPF_EXIST: 2 };
  const PER_PROCESSOR = [5, 6, 10, 21];

  const numbered = (names, given, what) => {
    if (Number.isInteger(given) && given >= 0) return given;
    const number = names.indexOf(ALIASES[given] ?? given);
    if (number < 0) throw new TypeError(`bpf: unknown ${what}: ${given}`);
    return number;
  };

  // A layout from what the object file says; undefined where values are Data.
  const made = type => {
    if (!type.kind) return Array.isArray(type) ? [made(type[0]), type[1]] : type;
    const fields = Object.fromEntries(type.fields.map(([name, of]) => [name, made(of)]));
    const layout = type.kind === 'union' ? new CUnion(fields) : new CStruct(fields);
    if (layout.size !== type.size) throw new RangeError('packed');
    return layout;
  };
  const layoutOf = (type, size) => {
    if (!type) return undefined;
    try {
      const layout = type.kind ? made(type) : new CStruct({ i: made(type) });
      return layout.size === size ? layout : undefined;
    } catch { return undefined; }
  };
  const encoded = (layout, value, what) => {
    if (value instanceof Data) return value;
    if (!layout) throw new TypeError(`bpf: ${what} is to be Data: its layout is not known`);
    if (typeof value !== 'object' || value === null) {
      if (layout.fields.length !== 1) throw new TypeError(`bpf: ${what} is to be an object, not ${value}`);
      value = { [layout.fields[0].name]: value };
    }
    return layout.encode(value);
  };
  const decoded = (layout, data) => layout ? layout.decode(data) : data;

  class Map {
    #handle;
    #make;
    #each;
    constructor(info, make, keyType, valueType) {
      this.#make = make;
      const { name, type, flags, maxEntries, keySize, valueSize } = info;
      Object.assign(this, { name, type, flags, maxEntries, keySize, keyType, valueSize, valueType });
      this.#each = PER_PROCESSOR.includes(type);
    }
    // It is made when it is first needed: looking into a file needs no privileges.
    get #open() {
      if (this.#handle === null) throw new Error(`bpf: the map ${this.name} is closed`);
      return this.#handle ??= this.#make();
    }
    get id() { return call.info(this.#open).id; }
    get fd() { return call.info(this.#open).fd; }
    // Where each processor has a value of its own, values are lists.
    #value(data) {
      if (!this.#each) return decoded(this.valueType, data);
      const step = Math.ceil(this.valueSize / 8) * 8;
      return Array.from({ length: data.size / step }, () => decoded(this.valueType, data.shift(step).shift(this.valueSize)));
    }
    #bytes(value) {
      if (!this.#each || value instanceof Data) return encoded(this.valueType, value, 'the value');
      const all = new Data();
      for (const one of value) {
        const bytes = encoded(this.valueType, one, 'the value');
        all.push(bytes).push(new Data(Array(-bytes.size & 7).fill(0)));
      }
      return all;
    }
    #list(see) {
      const all = [];
      // LIMIT: of a map that changes meanwhile, listing may begin anew, again and again.
      for (let key, left = 2 * this.maxEntries + 1; left > 0 && (key = call.next(this.#open, key)) !== undefined; left--) see(key, all);
      return all;
    }
    keys() { return this.#list((key, all) => all.push(decoded(this.keyType, new Data(key)))); }
    entries() {
      return this.#list((key, all) => {
        const value = call.lookup(this.#open, key);
        if (value !== undefined) all.push([decoded(this.keyType, new Data(key)), this.#value(value)]);
      });
    }
    lookup(key) {
      const value = call.lookup(this.#open, encoded(this.keyType, key, 'the key'));
      return value === undefined ? undefined : this.#value(value);
    }
    update(key, value, flags) {
      const how = UPDATES[flags ?? 'BPF_ANY'];
      if (how === undefined) throw new TypeError(`bpf: unknown flag: ${flags}; there are ${Object.keys(UPDATES).join(', ')}`);
      call.update(this.#open, encoded(this.keyType, key, 'the key'), this.#bytes(value), how);
    }
    delete(key) { return call.delete(this.#open, encoded(this.keyType, key, 'the key')); }
    close() {
      if (typeof this.#handle === 'number') call.close(this.#handle);
      this.#handle = null;
    }
    static list() { return call.maps(); }
    static open(id, keyType, valueType) {
      if (!Number.isInteger(id)) throw new TypeError(`bpf.Map.open(): ${id} is no number of a map`);
      const handle = call.open(id);
      const info = call.info(handle);
      for (const [type, size, what] of [[keyType, info.keySize, 'keys'], [valueType, info.valueSize, 'values']]) {
        if (type && type.size !== size) throw new RangeError(`bpf.Map.open(): ${what} of ${info.name} have ${size} bytes, not ${type.size}`);
      }
      return new Map(info, () => handle, keyType, valueType);
    }
  }

  class Program {
    #link;
    constructor({ name, section, size }, link) {
      Object.assign(this, { name, section, size, fd: 0 });
      this.#link = link;
    }
    // The second argument is a license or how it will be attached.
    load(type, how) {
      const kind = numbered(PROGRAMS, type, 'type of programs');
      const attach = typeof how === 'string' && !how.startsWith('BPF_') ? 0 : numbered(ATTACH, how ?? 0, 'way to attach');
      this.fd = this.#link(kind, attach, typeof how === 'string' && !how.startsWith('BPF_') ? how : undefined);
      return this;
    }
    static list() { return call.programs(); }
  }

  const descriptor = fd => {
    if (!Number.isInteger(fd) || fd <= 0) throw new TypeError('bpf: expected the fd of a program that is loaded, or of a map');
    return fd;
  };

  globalThis.bpf = {
    Map,
    Program,
    object: data => {
      const file = call.read(data instanceof Data ? data : new Data(data));
      const maps = file.maps.map((def, number) => (
        new Map(def, () => call.make(file.file, number), layoutOf(def.keyType, def.keySize), layoutOf(def.valueType, def.valueSize))
      ));
      const programs = file.programs.map((def, number) => new Program(def, (kind, attach, license) => {
        const fds = maps.map((map, number) => def.maps.includes(number) ? map.fd : -1);
        return call.load(file.file, number, { kind, attach, license, maps: fds });
      }));
      return { programs, maps: maps.filter((_, number) => !file.maps[number].isVariables) };
    },
    pin: (path, fd) => call.pin(path, descriptor(fd)),
    attach: (type, fd, cgroup) => call.attach(numbered(ATTACH, type, 'way to attach'), descriptor(fd), cgroup),
    detach: (type, fd, cgroup) => call.detach(numbered(ATTACH, type, 'way to attach'), descriptor(fd), cgroup),
    cgroup: path => call.cgroup(path),
  };
}
