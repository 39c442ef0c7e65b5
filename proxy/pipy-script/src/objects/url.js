// URL and URLSearchParams.
native => {
  const plus = text => decodeURIComponent(text.replace(/\+/g, ' '));
  class URLSearchParams {
    #pairs = [];
    constructor(from) {
      if (typeof from === 'string') {
        for (const part of from.replace(/^\?/, '').split('&')) {
          if (!part) continue;
          const [, name, value] = /^([^=]*)=?(.*)$/s.exec(part);
          try { this.#pairs.push([plus(name), plus(value)]); } catch { this.#pairs.push([name, value]); }
        }
      } else {
        for (const [name, value] of Object.entries(from ?? {})) for (const item of [value].flat()) this.#pairs.push([name, String(item)]);
      }
    }
    get(name) { return this.#pairs.find(pair => pair[0] === name)?.[1] ?? null; }
    has(name) { return this.#pairs.some(pair => pair[0] === name); }
    getAll(name) { return this.#pairs.filter(pair => pair[0] === name).map(pair => pair[1]); }
    append(name, value) { this.#pairs.push([name, String(value)]); }
    delete(name) { this.#pairs = this.#pairs.filter(pair => pair[0] !== name); }
    set(name, value) {
      const at = this.#pairs.findIndex(pair => pair[0] === name);
      this.#pairs = this.#pairs.filter((pair, i) => pair[0] !== name || i === at);
      if (at < 0) this.#pairs.push([name, String(value)]);
      else this.#pairs.find(pair => pair[0] === name)[1] = String(value);
    }
    toObject() {
      const object = {};
      for (const [name] of this.#pairs) {
        const all = this.getAll(name);
        object[name] = all.length > 1 ? all : all[0];
      }
      return object;
    }
    toString() { return this.#pairs.map(pair => pair.map(encodeURIComponent).join('=')).join('&'); }
  }

  const PORTS = { 'http:': '80', 'https:': '443', 'ws:': '80', 'wss:': '443', 'ftp:': '21' };
  const pattern = /^([a-z][a-z0-9+.-]*:)(?:\/\/(?:([^:@/?#]*)(?::([^@/?#]*))?@)?(\[[^\]]*\]|[^:/?#]*)(?::([0-9]*))?)?([^?#]*)(\?[^#]*)?(#.*)?$/i;
  const tidy = path => {
    const out = [];
    for (const part of path.split('/').slice(1)) {
      if (part === '..') out.pop();
      else if (part !== '.') out.push(part);
    }
    if (/\/\.{1,2}$/.test(path)) out.push('');
    return `/${out.join('/')}`;
  };
  class URL {
    constructor(text, base) {
      text = String(text);
      let match = pattern.exec(text);
      if (!match && base !== undefined) {
        const on = new URL(base);
        const joined = text.startsWith('//') ? on.protocol + text
          : text.startsWith('/') ? on.origin + text
          : text.startsWith('?') ? on.origin + on.pathname + text
          : on.origin + on.pathname.replace(/[^/]*$/, '') + text;
        match = pattern.exec(joined);
      }
      if (!match) throw new TypeError(`invalid URL: ${text}`);
      const [, protocol, username = '', password = '', host = '', port = '', path, search = '', hash = ''] = match;
      this.protocol = protocol.toLowerCase();
      this.username = username;
      this.password = password;
      this.auth = username || password ? `${username}:${password}` : '';
      this.hostname = host.toLowerCase();
      this.port = port === PORTS[this.protocol] ? '' : port;
      this.host = this.port ? `${this.hostname}:${this.port}` : this.hostname;
      this.origin = `${this.protocol}//${this.host}`;
      this.pathname = host || this.protocol in PORTS ? tidy(path || '/') : path;
      this.search = search === '?' ? '' : search;
      this.query = this.search.slice(1);
      this.path = this.pathname + this.search;
      this.hash = hash === '#' ? '' : hash;
      this.searchParams = new URLSearchParams(this.search);
      this.href = `${this.origin.replace('//', this.auth ? `//${this.auth.replace(/:$/, '')}@` : '//')}${this.path}${this.hash}`;
    }
    toString() { return this.href; }
    toJSON() { return this.href; }
    static encode(text) { return encodeURI(text); }
    static decode(text) { return decodeURI(text); }
    static encodeComponent(text) { return encodeURIComponent(text); }
    static decodeComponent(text) { return decodeURIComponent(text); }
  }
  Object.assign(globalThis, { URL, URLSearchParams });
}
