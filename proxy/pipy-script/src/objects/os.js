// os beyond env and readFile, and os.path.
native => {
  const normalize = path => {
    const out = [];
    for (const part of path.split('/')) {
      if (part === '' || part === '.') continue;
      if (part === '..' && out.length > 0 && out.at(-1) !== '..') out.pop();
      else if (part !== '..' || !path.startsWith('/')) out.push(part);
    }
    return (path.startsWith('/') ? '/' : '') + out.join('/') || '.';
  };
  const path = {
    normalize,
    join: (...parts) => normalize(parts.filter(Boolean).join('/')),
    resolve: (...parts) => normalize(native.absolute(parts.reduce((all, part) => (part.startsWith('/') ? part : `${all}/${part}`), '.'))),
    basename: (name, end) => {
      const last = name.replace(/\/+$/, '').replace(/^.*\//s, '');
      return end && last !== end && last.endsWith(end) ? last.slice(0, -end.length) : last;
    },
    dirname: name => {
      const folder = name.replace(/\/+$/, '').replace(/\/*[^/]*$/, '');
      return folder || (name.startsWith('/') ? '/' : '.');
    },
  };
  class Stats {
    #found;
    constructor(found) {
      this.#found = found;
      for (const name of ['dev', 'ino', 'mode', 'nlink', 'uid', 'gid', 'rdev', 'size', 'blksize', 'blocks', 'atime', 'mtime', 'ctime']) this[name] = found[name];
    }
    isFile() { return this.#found.file; }
    isDirectory() { return this.#found.directory; }
    isSymbolicLink() { return (this.mode & 0o170000) === 0o120000; }
    isFIFO() { return (this.mode & 0o170000) === 0o010000; }
    isSocket() { return (this.mode & 0o170000) === 0o140000; }
    isBlockDevice() { return (this.mode & 0o170000) === 0o060000; }
    isCharacterDevice() { return (this.mode & 0o170000) === 0o020000; }
  }
  globalThis.os = Object.assign(native.os, {
    path,
    platform: 'linux',
    home: () => native.os.env.HOME,
    read: native.read,
    readFile: native.read,
    write: native.write,
    writeFile: native.write,
    rename: native.rename,
    stat: name => { const found = native.stat(name); return found && new Stats(found); },
    list: native.list,
    readDir: native.list,
    abspath: native.absolute,
    chdir: native.chdir,
    kill: (pid, signal) => native.kill(pid, String(signal ?? 'SIGTERM').toUpperCase()),
    mkdir: (name, options) => native.mkdir(name, options?.recursive ?? false),
    rmdir: (name, options) => native.remove(name, options?.recursive ?? false, options?.force ?? false),
    rm: (name, options) => native.remove(name, options?.recursive ?? false, options?.force ?? false),
    unlink: name => native.remove(name, false, false),
  });
}
