// logging: loggers to standard output, files, servers and the system's log.
native => {
  const ERRORS_APART = 10000;
  const size = value => {
    if (value === undefined || value === null || typeof value === 'number') return value ?? 0;
    const match = /^([0-9.]+)\s*([kmgt]?)b?$/i.exec(value.trim());
    if (!match) throw new TypeError(`${JSON.stringify(value)} is no size; write 1000, '64k', '10m' or '1g'`);
    return Number(match[1]) * { '': 1, k: 1024, m: 1 << 20, g: 1 << 30, t: 2 ** 40 }[match[2].toLowerCase()];
  };
  const seconds = (value, other) => (value === undefined || value === null ? other : native.seconds(value));
  class Logger {
    #targets = []; #told = 0;
    constructor(name) {
      if (typeof name !== 'string' || name === '') throw new TypeError('a logger needs a name');
      this.name = name;
      // Scripts keep the method without its object.
      this.log = (...values) => this.#write(values);
    }
    #write(values) {
      const line = this.line(values);
      native.sinks.note(this.name, line);
      for (const write of this.#targets) {
        const error = write(line);
        // A disk that is full is said now and then, not with each line.
        if (error && Date.now() - this.#told > ERRORS_APART) {
          this.#told = Date.now();
          native.problem(`[log ${this.name}] ${error}`);
        }
      }
    }
    #to(outlet) { this.#targets.push(line => outlet.write(line)); return this; }
    toStdout() { this.#targets.push(line => native.out(line)); return this; }
    toStderr() { this.#targets.push(line => native.err(line)); return this; }
    toFile(path, options) {
      if (typeof path !== 'string' || path === '') throw new TypeError('toFile() expects a path');
      const { append = true, maxFileSize, maxFileCount, rotateInterval } = options ?? {};
      const interval = rotateInterval === undefined ? undefined : native.seconds(rotateInterval);
      return this.#to(native.sinks.file(path, append, { size: size(maxFileSize), count: maxFileCount, interval }));
    }
    toSyslog(priority, options) {
      return this.#to(native.sinks.syslog(this.name, String(priority ?? 'INFO'), options?.address ?? '/dev/log'));
    }
    toHTTP(url, options) {
      const { method = 'POST', headers, bufferLimit = '8m', tls, batch } = options ?? {};
      const plain = Object.fromEntries(Object.entries(headers ?? {}).map(([name, value]) => [name, String(value)]));
      const trusted = [tls?.trusted ?? []].flat().map(one => (one.toPEM?.() ?? one).toString()).join('\n');
      const shape = {
        size: batch?.size ?? 1000, interval: seconds(batch?.interval, 5), timeout: seconds(batch?.timeout, 5),
        prefix: batch?.prefix ?? '', postfix: batch?.postfix ?? '', separator: batch?.separator ?? '\n',
      };
      const key = JSON.stringify([method, plain, shape, trusted.length]);
      return this.#to(native.sinks.http(String(url), { method, headers: plain, trusted, limit: size(bufferLimit), batch: shape, key }));
    }
  }
  class JSONLogger extends Logger {
    line(values) { return `${values.map(value => JSON.stringify(value)).join(' ')}\n`; }
  }
  class TextLogger extends Logger {
    line(values) { return `${values.map(value => (typeof value === 'object' && value !== null && !(value instanceof Data) ? JSON.stringify(value) : String(value))).join(' ')}\n`; }
  }
  // Bytes as they are.
  class BinaryLogger extends Logger {
    line(values) {
      const all = new Data();
      for (const value of values) all.push(value instanceof Data ? value : new Data(String(value)));
      return all;
    }
  }
  globalThis.logging = { JSONLogger, TextLogger, BinaryLogger };
}
