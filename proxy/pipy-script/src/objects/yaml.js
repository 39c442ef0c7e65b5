// YAML: read by the native, written here.
native => {
  const text = (data, what) => {
    if (data === null || data === undefined) throw new TypeError(`${what} expects Data, got nothing: is the file there?`);
    return data.toString() ?? '';
  };
  // What would be read as something else, or not at all, is quoted.
  const plain = value => /^[A-Za-z_\/][A-Za-z0-9_\/.@-]*( [A-Za-z0-9_\/.@-]+)*$/.test(value) && !/^(true|false|null|yes|no|on|off|y|n|~)$/i.test(value);
  const scalar = value => {
    if (value === undefined || value === null) return 'null';
    if (typeof value === 'number') return Number.isNaN(value) ? '.nan' : value === Infinity ? '.inf' : value === -Infinity ? '-.inf' : String(value);
    if (typeof value === 'string') return plain(value) ? value : JSON.stringify(value);
    if (value instanceof Date) return value.toISOString();
    if (value instanceof Data) return `!!binary ${JSON.stringify(value.toString('base64'))}`;
    return JSON.stringify(value) ?? 'null';
  };
  const listed = value => Array.isArray(value) || (value !== null && typeof value === 'object' && !(value instanceof Date) && !(value instanceof Data));
  const yaml = (value, indent, depth) => {
    if (depth > 48) throw new RangeError('YAML: the value is nested too deeply, or contains itself');
    if (!listed(value)) return scalar(value);
    if (Array.isArray(value)) {
      if (value.length === 0) return '[]';
      return value.map(item => `- ${yaml(item, `${indent}  `, depth + 1).replace(/^\n */, '')}`).join(`\n${indent}`);
    }
    const fields = Object.entries(value).filter(([, field]) => field !== undefined && typeof field !== 'function');
    if (fields.length === 0) return '{}';
    return fields.map(([name, field]) => {
      const inner = yaml(field, `${indent}  `, depth + 1);
      const nested = listed(field) && inner !== '[]' && inner !== '{}';
      return `${scalar(name)}:${nested ? `\n${indent}  ` : ' '}${inner}`;
    }).join(`\n${indent}`);
  };
  const stringify = value => `${yaml(value, '', 0)}\n`;
  globalThis.YAML = {
    parse: source => native.yaml(text(source, 'YAML.parse()')),
    decode: data => native.yaml(text(data, 'YAML.decode()')),
    stringify,
    encode: value => new Data(stringify(value)),
  };
}
