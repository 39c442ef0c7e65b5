// JSON.decode and JSON.encode, and YAML.
native => {
  const text = (data, what) => {
    if (data === null || data === undefined) throw new TypeError(`${what} expects Data, got nothing: is the file there?`);
    const read = data.toString();
    if (read === undefined) throw new TypeError(`${what}: the data is not UTF-8`);
    return read;
  };
  JSON.decode = (data, reviver) => JSON.parse(text(data, 'JSON.decode()'), reviver);
  JSON.encode = (value, replacer, indent) => new Data(JSON.stringify(value, replacer, indent) ?? '');
  globalThis.YAML = {
    parse: source => native.yaml(text(source, 'YAML.parse()')),
    decode: data => native.yaml(text(data, 'YAML.decode()')),
    // JSON is YAML.
    stringify: value => `${JSON.stringify(value, null, 2)}\n`,
    encode: value => new Data(`${JSON.stringify(value, null, 2)}\n`),
  };
}
