// JSON.decode and JSON.encode, and classes of values that codecs take as plain objects.
() => {
  const text = (data, what) => {
    if (data === null || data === undefined) throw new TypeError(`${what} expects Data, got nothing: is the file there?`);
    const read = data.toString();
    if (read === undefined) throw new TypeError(`${what}: the data is not UTF-8`);
    return read;
  };
  JSON.decode = (data, reviver) => JSON.parse(text(data, 'JSON.decode()'), reviver);
  JSON.encode = (value, replacer, indent) => new Data(JSON.stringify(value, replacer, indent) ?? '');
  XML.Node = class Node {
    constructor(name, attributes, children) {
      Object.assign(this, { name: String(name), attributes: attributes ?? {}, children: children ?? [] });
    }
  };
  Hessian.Collection = class Collection {
    constructor(kind, type, elements) {
      if (!['list', 'map', 'object'].includes(kind)) throw new TypeError(`Hessian.Collection: unknown kind: ${kind}; there are list, map and object`);
      Object.assign(this, { kind, type: type ?? '', elements: elements ?? [] });
    }
  };
}
