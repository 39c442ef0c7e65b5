// JSON.decode and JSON.encode.
() => {
  const text = (data, what) => {
    if (data === null || data === undefined) throw new TypeError(`${what} expects Data, got nothing: is the file there?`);
    const read = data.toString();
    if (read === undefined) throw new TypeError(`${what}: the data is not UTF-8`);
    return read;
  };
  JSON.decode = (data, reviver) => JSON.parse(text(data, 'JSON.decode()'), reviver);
  JSON.encode = (value, replacer, indent) => new Data(JSON.stringify(value, replacer, indent) ?? '');
}
