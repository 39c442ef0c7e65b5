// http: files and folders as responses, and patterns of paths.
native => {
  const TYPES = {
    html: 'text/html', htm: 'text/html', css: 'text/css', txt: 'text/plain', md: 'text/markdown', xml: 'text/xml', csv: 'text/csv',
    js: 'application/javascript', mjs: 'application/javascript', json: 'application/json', pdf: 'application/pdf', wasm: 'application/wasm',
    zip: 'application/zip', gz: 'application/gzip', gif: 'image/gif', jpg: 'image/jpeg', jpeg: 'image/jpeg', png: 'image/png',
    svg: 'image/svg+xml', ico: 'image/x-icon', webp: 'image/webp', woff: 'font/woff', woff2: 'font/woff2', ttf: 'font/ttf',
    mp3: 'audio/mpeg', mp4: 'video/mp4', webm: 'video/webm',
  };
  const typeOf = (path, types, other) => (types ?? TYPES)[/\.([^./]+)$/.exec(path)?.[1]?.toLowerCase()] ?? other ?? 'application/octet-stream';
  const packed = (accepted, type) => /\bgzip\b/.test(accepted ?? '') && /^text\/|json|javascript|xml/.test(type);

  class File {
    #data; #type; #packed;
    constructor(data, type) { [this.#data, this.#type] = [data, type]; }
    static from(path) {
      const data = native.load(path);
      return data === null ? null : new File(data, typeOf(path));
    }
    get data() { return new Data(this.#data); }
    toMessage(accepted) {
      const encoding = this.#data.size >= 256 && packed(accepted, this.#type) ? 'gzip' : undefined;
      return this.message(encoding);
    }
    message(encoding) {
      const headers = { 'content-type': this.#type };
      // A script may change a body: each message has its own.
      if (encoding !== 'gzip') return new Message({ status: 200, headers }, new Data(this.#data));
      this.#packed ??= zlib.gzip(this.#data);
      return new Message({ status: 200, headers: { ...headers, 'content-encoding': 'gzip', vary: 'accept-encoding' } }, new Data(this.#packed));
    }
  }

  // The files of a tar archive (ustar), by path.
  const unpack = archive => {
    const rest = new Data(archive.toArray()[0] === 0x1f ? zlib.gunzip(archive) : archive);
    const files = new Map();
    if (rest.size < 512 || rest.size % 512) throw new Error('http.Directory: this is no tar archive');
    const field = (block, at, length) => new Data(block.toArray().slice(at, at + length)).shiftWhile(byte => byte !== 0).toString('latin1');
    while (rest.size >= 512) {
      const head = rest.shift(512);
      const name = field(head, 0, 100);
      if (name === '') break;
      const size = parseInt(field(head, 124, 12), 8);
      if (!(size >= 0)) throw new Error('http.Directory: this is no tar archive');
      const prefix = field(head, 257, 5) === 'ustar' ? field(head, 345, 155) : '';
      const content = rest.shift(size);
      rest.shift((512 - (size % 512)) % 512);
      const kind = field(head, 156, 1);
      if (kind === '' || kind === '0') files.set(`/${prefix ? `${prefix}/` : ''}${name}`.replace(/^\/(\.\/)?/, '/'), content);
    }
    return files;
  };

  class Directory {
    #root; #options; #known = new Map(); #archive;
    constructor(path, options) {
      if (typeof path !== 'string') throw new TypeError('http.Directory expects a path');
      [this.#root, this.#options] = [path.replace(/\/+$/, ''), options ?? {}];
      if (this.#options.tarball) {
        const archive = this.#options.fs ? native.read(path) : native.load(path);
        if (archive === null) throw new Error(`http.Directory: cannot open ${path}`);
        this.#archive = unpack(archive);
      }
    }
    // What the machine has may change; it is read again when it does.
    #read(path) {
      if (this.#archive) return [this.#archive.get(path) ?? null, ''];
      const name = `${this.#root}${path}`;
      if (!this.#options.fs) return [this.#known.has(path) ? undefined : native.load(name), ''];
      const found = native.stat(name);
      if (!found?.file) return [null, ''];
      const stamp = `${found.mtime} ${found.size}`;
      return [this.#known.get(path)?.stamp === stamp ? undefined : native.read(name), stamp];
    }
    #file(path) {
      const [data, stamp] = this.#read(path);
      if (data === null) { this.#known.delete(path); return null; }
      if (data === undefined) return this.#known.get(path).file;
      const { contentTypes, defaultContentType } = this.#options;
      const types = contentTypes && { ...TYPES, ...contentTypes };
      const file = new File(data, typeOf(path, types, defaultContentType));
      // LIMIT: files that are kept; they are as many as the folder has, unless that changes all the time.
      if (this.#known.size >= 1000) this.#known.delete(this.#known.keys().next().value);
      this.#known.set(path, { file, stamp });
      return file;
    }
    serve(request) {
      const head = request?.head ?? request;
      const method = head?.method ?? 'GET';
      if (method !== 'GET' && method !== 'HEAD') return null;
      let path;
      try { path = decodeURIComponent((head?.path ?? '/').split(/[?#]/, 1)[0]); } catch { return null; }
      if (!path.startsWith('/') || path.includes('\u0000') || path.split('/').includes('..')) return null;
      const index = [this.#options.index ?? ['index.html']].flat();
      const names = path.endsWith('/') ? index.map(name => path + name) : [path, ...index.map(name => `${path}/${name}`)];
      for (const name of names) {
        const file = this.#file(name);
        if (!file) continue;
        const accepted = head?.headers?.['accept-encoding'] ?? '';
        const { compression } = this.#options;
        if (typeof compression !== 'function') return file.toMessage(accepted);
        const all = accepted.split(',').map(one => one.trim().split(';')[0]).filter(Boolean);
        return file.message(compression({ path: name, size: file.data.size }, all));
      }
      return null;
    }
  }
  Directory.defaultContentTypes = TYPES;

  const Match = function (pattern) {
    if (typeof pattern !== 'string' || !pattern.startsWith('/')) throw new TypeError(`invalid pattern: ${pattern}; it begins with a slash`);
    const names = [];
    const source = pattern.replace(/[.+?^$()|[\]\\]/g, '\\$&').replace(/\{([^}]+)\}|\*/g, (_, name) => {
      names.push(name ?? '*');
      return name === undefined ? '(.*)' : '([^/]+)';
    });
    const expression = new RegExp(`^${source}$`);
    return target => {
      const path = String(target?.path ?? target ?? '').split(/[?#]/, 1)[0];
      const found = expression.exec(path);
      return found && Object.fromEntries(names.map((name, i) => [name, found[i + 1]]));
    };
  };

  // Pipelines of an agent belong to no file of the script.
  let inside;
  const FAILURES = ['502 Connection Refused', '502 Cannot Resolve', '502 Bad Gateway', '504 Gateway Timeout', '401 Unauthorized'];
  class Agent {
    #pipeline; #authority;
    constructor(host, options) {
      if (typeof host !== 'string' || host === '') throw new TypeError('http.Agent expects host:port, or a URL');
      const url = /^[a-z]+:\/\//i.test(host) ? new URL(host) : undefined;
      const { tls = url?.protocol === 'https:' ? {} : undefined, connect, mux, ...flat } = options ?? {};
      const bare = (url?.host ?? host).replace(/\/.*$/, '');
      const target = /:[0-9]+$/.test(bare) ? bare : `${bare}:${tls ? 443 : 80}`;
      const name = target.replace(/:[0-9]+$/, '').replace(/^\[(.*)\]$/, '$1');
      this.#authority = bare;
      const reach = { connectTimeout: 10, ...flat, ...connect };
      const key = {};
      inside ??= __pipy.module(0, '/http.Agent', {});
      this.#pipeline = inside.pipeline($ => $
        .onStart(asked => {
          __pipy.c.asked = asked;
          return [asked.message, new StreamEnd()];
        })
        .muxHTTP(() => key, { ...mux }).to($ => (tls
          ? $.connectTLS({ sni: name, ...tls }).to($ => $.connect(target, reach))
          : $.connect(target, reach)))
        .replaceMessage(response => {
          const { done, failed } = __pipy.c.asked;
          __pipy.c.asked = undefined;
          const { status, statusText, headers } = response.head;
          // What muxHTTP answers itself, where no server did, has no headers.
          const own = FAILURES.includes(`${status} ${statusText}`) && Object.keys(headers).length === 0 && !response.body?.size;
          if (own) failed(new Message(response.head, `${target}: ${statusText}`));
          else done(response);
          return new StreamEnd();
        })
        .handleStreamEnd(end => {
          __pipy.c.asked?.failed(new Message({ status: 502, statusText: 'Bad Gateway', headers: {} }, `${target}: ${end.error ?? 'the connection ended'}`));
          __pipy.c.asked = undefined;
        }));
    }
    request(method, path, headers, body) {
      const { head, body: content, tail } = method instanceof Message ? method : new Message({ method, path, headers }, body);
      const message = new Message({ ...head, method: head.method ?? 'GET', path: head.path ?? '/', headers: { host: this.#authority, ...head.headers } }, content, tail);
      return new Promise((done, failed) => { this.#pipeline.spawn({ message, done, failed }); });
    }
  }
  globalThis.http = { File, Directory, Match, Agent };
}
