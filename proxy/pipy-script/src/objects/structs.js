// CStruct, CUnion and CString: values in the layout that C gives them on this machine, which is little-endian.
//
// Types: int8 … int64, uint8 … uint64, float, double, pointer; `char[n]` is text, `int32[4]` a list; a CStruct or CUnion nests.
// Each field is aligned to its size, as compilers do, unless the option isPacked says otherwise.
native => {
  const numbers = {
    int8: [1, 'Int8'], uint8: [1, 'Uint8'], int16: [2, 'Int16'], uint16: [2, 'Uint16'], int32: [4, 'Int32'], uint32: [4, 'Uint32'],
    int64: [8, 'BigInt64'], uint64: [8, 'BigUint64'], float: [4, 'Float32'], double: [8, 'Float64'],
  };
  const ALIASES = {
    char: 'int8', 'signed char': 'int8', 'unsigned char': 'uint8', short: 'int16', 'unsigned short': 'uint16', int: 'int32', 'unsigned int': 'uint32',
    unsigned: 'uint32', long: 'int64', 'unsigned long': 'uint64', size_t: 'uint64', pointer: 'uint64', bool: 'uint8', float32: 'float', float64: 'double',
  };
  const number = name => {
    const plain = name.trim().replace(/\s+/g, ' ').replace(/_t$/, '');
    const known = numbers[plain] ?? numbers[ALIASES[plain] ?? ALIASES[name.trim()]];
    if (!known) throw new TypeError(`unknown type: ${name}`);
    const [size, method] = known;
    const big = method.startsWith('Big');
    return {
      size, align: size, name: plain,
      // What fits a number is one, as scripts expect; what does not stays whole.
      read: (view, at) => {
        const value = view[`get${method}`](at, true);
        return big && value >= -9007199254740991n && value <= 9007199254740991n ? Number(value) : value;
      },
      write: (view, at, value) => view[`set${method}`](at, big ? BigInt(value ?? 0) : Number(value ?? 0), true),
    };
  };
  const bytesOf = value => (value instanceof Data ? value : new Data(String(value ?? ''))).toArray();
  const text = length => ({
    size: length, align: 1, name: `char[${length}]`,
    read: (view, at) => {
      const bytes = Array.from({ length }, (_, i) => view.getUint8(at + i));
      const end = bytes.indexOf(0);
      const data = new Data(end < 0 ? bytes : bytes.slice(0, end));
      return data.toString() ?? data;
    },
    write: (view, at, value) => {
      const bytes = bytesOf(value);
      if (bytes.length > length) throw new RangeError(`${bytes.length} bytes do not fit char[${length}]`);
      bytes.forEach((byte, i) => view.setUint8(at + i, byte));
    },
  });
  const list = (type, length) => ({
    size: type.size * length, align: type.align, name: `${type.name}[${length}]`,
    read: (view, at) => Array.from({ length }, (_, i) => type.read(view, at + i * type.size)),
    write: (view, at, values) => {
      const all = values instanceof Data ? values.toArray() : values ?? [];
      if (all.length > length) throw new RangeError(`${all.length} values do not fit ${type.name}[${length}]`);
      all.forEach((value, i) => type.write(view, at + i * type.size, value));
    },
  });
  const nested = layout => ({
    size: layout.size, align: layout.align, name: 'struct',
    read: (view, at) => layout.read(view, at),
    write: (view, at, value) => layout.write(view, at, value ?? {}),
  });
  const type = given => {
    if (Array.isArray(given)) return list(type(given[0]), given[1] ?? 1);
    if (given instanceof Composite) return nested(given);
    if (typeof given === 'object' && given !== null) return nested(new CStruct(given));
    const match = /^(.*?)\s*\[\s*([0-9]+)\s*\]$/.exec(String(given));
    if (!match) return number(String(given));
    return match[1].trim() === 'char' ? text(Number(match[2])) : list(type(match[1]), Number(match[2]));
  };
  const up = (offset, align) => Math.ceil(offset / align) * align;

  class Composite {
    constructor(fields, options) {
      this.fields = [];
      this.align = 1;
      this.size = 0;
      for (const [name, given] of Object.entries(fields ?? {})) {
        const of = type(given);
        const align = options?.isPacked ? 1 : of.align;
        this.align = Math.max(this.align, align);
        const offset = this.place(align);
        this.fields.push({ name, type: of, offset });
        this.size = Math.max(this.size, offset + of.size);
      }
      this.size = up(this.size, this.align);
    }
    read(view, at) {
      return Object.fromEntries(this.fields.map(field => [field.name, field.type.read(view, at + field.offset)]));
    }
    encode(value) {
      const buffer = new ArrayBuffer(this.size);
      this.write(new DataView(buffer), 0, value ?? {});
      return new Data([...new Uint8Array(buffer)]);
    }
    decode(data) {
      const bytes = new Uint8Array(this.size);
      // What is missing is zero.
      bytes.set(new Data(data).shift(this.size).toArray());
      return this.read(new DataView(bytes.buffer), 0);
    }
    reflect() { return this.fields.map(({ name, offset, type }) => ({ name, type: type.name, offset, size: type.size })); }
  }
  class CStruct extends Composite {
    place(align) { return up(this.size, align); }
    write(view, at, value) { for (const field of this.fields) field.type.write(view, at + field.offset, value[field.name]); }
  }
  class CUnion extends Composite {
    place() { return 0; }
    write(view, at, value) { for (const field of this.fields) if (field.name in value) field.type.write(view, at, value[field.name]); }
  }
  // A text that ends with a zero.
  class CString {
    constructor(size) { this.size = size; }
    encode(value) {
      const bytes = [...bytesOf(value), 0];
      if (this.size === undefined) return new Data(bytes);
      if (bytes.length > this.size) throw new RangeError(`${bytes.length} bytes do not fit a CString of ${this.size}`);
      return new Data([...bytes, ...Array(this.size - bytes.length).fill(0)]);
    }
    decode(data) { return new Data(data).shiftWhile(byte => byte !== 0).toString(); }
  }
  Object.assign(globalThis, { CStruct, CUnion, CString });
}
