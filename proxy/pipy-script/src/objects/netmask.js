// IP, Netmask (the same as IPMask) and IPEndpoint, for both families.
native => {
  const parse4 = text => {
    const parts = text.split('.');
    if (parts.length !== 4 || !parts.every(part => /^[0-9]{1,3}$/.test(part) && Number(part) < 256)) return undefined;
    return parts.reduce((value, part) => (value << 8n) | BigInt(part), 0n);
  };
  const parse6 = text => {
    text = text.replace(/%.*$/, '');
    const tail = /^(.*:)([0-9]+\.[0-9.]+)$/.exec(text);
    if (tail) {
      const low = parse4(tail[2]);
      if (low === undefined) return undefined;
      text = `${tail[1]}${(low >> 16n).toString(16)}:${(low & 0xffffn).toString(16)}`;
    }
    const halves = text.split('::');
    if (halves.length > 2) return undefined;
    const words = half => (half === '' || half === undefined ? [] : half.split(':'));
    const [front, back] = [words(halves[0]), words(halves[1])];
    const missing = 8 - front.length - back.length;
    if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
    const all = [...front, ...Array(halves.length === 2 ? missing : 0).fill('0'), ...back];
    if (!all.every(word => /^[0-9a-f]{1,4}$/i.test(word))) return undefined;
    return all.reduce((value, word) => (value << 16n) | BigInt(`0x${word}`), 0n);
  };
  const parse = text => {
    text = String(text).replace(/^\[(.*)\]$/, '$1');
    const value = text.includes(':') ? parse6(text) : parse4(text);
    if (value === undefined) return undefined;
    const version = text.includes(':') ? 6 : 4;
    // An IPv4 address in the clothes of IPv6 is an IPv4 address.
    if (version === 6 && value >> 32n === 0xffffn) return { version: 4, value: value & 0xffffffffn };
    return { version, value };
  };
  const format = (version, value) => {
    if (version === 4) return [24n, 16n, 8n, 0n].map(bits => (value >> bits) & 255n).join('.');
    const words = Array.from({ length: 8 }, (_, i) => ((value >> BigInt(112 - 16 * i)) & 0xffffn).toString(16));
    let [at, length] = [-1, 1];
    for (let i = 0; i < 8; i++) {
      let end = i;
      while (end < 8 && words[end] === '0') end++;
      if (end - i > length) [at, length] = [i, end - i];
    }
    if (at < 0) return words.join(':');
    return `${words.slice(0, at).join(':')}::${words.slice(at + length).join(':')}`;
  };
  const toBytes = (version, value) => Array.from({ length: version === 4 ? 4 : 16 }, (_, i, all = version === 4 ? 3 : 15) => Number((value >> BigInt(8 * (all - i))) & 255n));
  const fromBytes = bytes => {
    if (bytes.length !== 4 && bytes.length !== 16) throw new TypeError('an IP address has 4 or 16 bytes');
    return { version: bytes.length === 4 ? 4 : 6, value: bytes.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n) };
  };

  const composed = parts => fromBytes(parts.length === 8 ? parts.flatMap(word => [(word >> 8) & 255, word & 255]) : parts);

  class IP {
    #version; #value;
    constructor(from) {
      const found = Array.isArray(from) ? fromBytes(from) : from instanceof Data ? fromBytes(from.toArray()) : parse(from);
      if (!found) throw new TypeError(`invalid IP address: ${from}`);
      [this.#version, this.#value] = [found.version, found.value];
    }
    get version() { return this.#version; }
    static isV4(text) { return !String(text).includes(':') && parse(text) !== undefined; }
    static isV6(text) { return String(text).includes(':') && parse6(String(text)) !== undefined; }
    toBytes() { return toBytes(this.#version, this.#value); }
    toString() { return format(this.#version, this.#value); }
    toJSON() { return this.toString(); }
  }

  class Netmask {
    #version; #ip; #bits; #mask; #next;
    constructor(cidr, given) {
      // The other way round, too: a length, and an address as what decompose() gives, or as bytes.
      const parts = given instanceof Data ? given.toArray() : given;
      const [address, length] = Array.isArray(parts) ? [parts, cidr] : given === undefined ? String(cidr).split('/') : [cidr, given];
      const ip = Array.isArray(address) ? composed(address) : parse(address);
      const width = ip?.version === 6 ? 128 : 32;
      const bits = length === undefined ? width : Number(length);
      if (!ip || !Number.isInteger(bits) || bits < 0 || bits > width || length === '') throw new TypeError(`invalid CIDR notation: ${cidr}`);
      const all = (1n << BigInt(width)) - 1n;
      [this.#version, this.#ip, this.#bits] = [ip.version, ip.value, bits];
      this.#mask = all ^ ((1n << BigInt(width - bits)) - 1n);
      this.#next = this.#base();
    }
    #base() { return this.#ip & this.#mask; }
    #host() { return (this.#version === 4 ? 0xffffffffn : (1n << 128n) - 1n) ^ this.#mask; }
    #text(value) { return format(this.#version, value); }
    #edges() {
      const [low, high] = [this.#base(), this.#base() | this.#host()];
      return this.#version === 4 && this.#bits < 31 ? [low + 1n, high - 1n] : [low, high];
    }
    get version() { return this.#version; }
    get ip() { return this.#text(this.#ip); }
    get bitmask() { return this.#bits; }
    get base() { return this.#text(this.#base()); }
    get mask() { return this.#text(this.#mask); }
    get hostmask() { return this.#text(this.#host()); }
    get broadcast() { return this.#text(this.#base() | this.#host()); }
    get size() { return Number(this.#host() + 1n); }
    get first() { return this.#text(this.#edges()[0]); }
    get last() { return this.#text(this.#edges()[1]); }
    decompose() {
      return this.#version === 4 ? toBytes(4, this.#ip) : Array.from({ length: 8 }, (_, i) => Number((this.#ip >> BigInt(112 - 16 * i)) & 0xffffn));
    }
    toBytes() { return toBytes(this.#version, this.#ip); }
    contains(address) {
      const ip = parse(address);
      return ip !== undefined && ip.version === this.#version && (ip.value & this.#mask) === this.#base();
    }
    next() {
      const [low, high] = this.#edges();
      if (this.#next < low) this.#next = low;
      if (this.#next > high) return undefined;
      return this.#text(this.#next++);
    }
    toString() { return `${this.base}/${this.#bits}`; }
  }

  class IPEndpoint {
    constructor(address, port, protocol) {
      const match = port === undefined ? /^(.*):([0-9]+)$/.exec(String(address)) : null;
      this.ip = new IP(match ? match[1] : address);
      this.port = Number(match ? match[2] : port ?? 0);
      this.protocol = protocol;
    }
    toString() { return this.ip.version === 6 ? `[${this.ip}]:${this.port}` : `${this.ip}:${this.port}`; }
  }
  Object.assign(globalThis, { IP, Netmask, IPMask: Netmask, IPEndpoint });
}
