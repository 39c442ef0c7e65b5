// logging: loggers to standard output and to files.
native => {
  class Logger {
    #targets = [];
    constructor(name) {
      if (typeof name !== 'string' || name === '') throw new TypeError('a logger needs a name');
      this.name = name;
      // Scripts keep the method without its object.
      this.log = (...values) => this.#write(values);
    }
    #write(values) {
      const line = `${this.line(values)}\n`;
      for (const write of this.#targets) {
        try { write(line); } catch (error) { native.problem(`[log ${this.name}] ${error.message}`); }
      }
    }
    toStdout() { this.#targets.push(native.out); return this; }
    toStderr() { this.#targets.push(native.err); return this; }
    toFile(path, options) {
      if (typeof path !== 'string' || path === '') throw new TypeError('toFile() expects a path');
      if (options?.append === false) native.write(path, '');
      this.#targets.push(line => native.append(path, line));
      return this;
    }
    toHTTP() { throw new Error('logging: toHTTP() is not there yet; use toFile() or toStdout()'); }
    toSyslog() { throw new Error('logging: toSyslog() is not there yet; use toFile() or toStdout()'); }
  }
  class JSONLogger extends Logger {
    line(values) { return values.map(value => JSON.stringify(value)).join(' '); }
  }
  class TextLogger extends Logger {
    line(values) { return values.map(value => (typeof value === 'object' && value !== null && !(value instanceof Data) ? JSON.stringify(value) : String(value))).join(' '); }
  }
  globalThis.logging = { JSONLogger, TextLogger };
}
