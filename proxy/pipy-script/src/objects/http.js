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
    #data; #type;
    constructor(data, type) { [this.#data, this.#type] = [data, type]; }
    static from(path) {
      const data = native.load(path);
      return data === null ? null : new File(data, typeOf(path));
    }
    toMessage(accepted) {
      const headers = { 'content-type': this.#type };
      // A script may change a body: each message has its own.
      if (this.#data.size < 256 || !packed(accepted, this.#type)) return new Message({ status: 200, headers }, new Data(this.#data));
      return new Message({ status: 200, headers: { ...headers, 'content-encoding': 'gzip', vary: 'accept-encoding' } }, zlib.gzip(this.#data));
    }
  }

  class Directory {
    #root; #options;
    constructor(path, options) {
      if (typeof path !== 'string') throw new TypeError('http.Directory expects a path');
      [this.#root, this.#options] = [path.replace(/\/+$/, ''), options ?? {}];
    }
    #read(path) {
      const name = `${this.#root}${path}`;
      if (!this.#options.fs) return native.load(name);
      return native.stat(name)?.file ? native.read(name) : null;
    }
    serve(request) {
      const head = request?.head ?? request;
      const method = head?.method ?? 'GET';
      if (method !== 'GET' && method !== 'HEAD') return null;
      let path;
      try { path = decodeURIComponent((head?.path ?? '/').split(/[?#]/, 1)[0]); } catch { return null; }
      if (!path.startsWith('/') || path.includes('\u0000') || path.split('/').includes('..')) return null;
      const index = this.#options.index ?? ['index.html'];
      const names = path.endsWith('/') ? index.map(name => path + name) : [path];
      for (const name of names) {
        const data = this.#read(name);
        if (data === null) continue;
        const { contentTypes, defaultContentType } = this.#options;
        const types = contentTypes && { ...TYPES, ...contentTypes };
        const file = new File(data, typeOf(name, types, defaultContentType));
        return file.toMessage(head?.headers?.['accept-encoding']);
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
  globalThis.http = { File, Directory, Match };
}
