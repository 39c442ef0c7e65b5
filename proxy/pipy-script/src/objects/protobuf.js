// protobuf: messages without schemas. For each kind of field there are getX, getXArray, setX and setXArray.
native => {
  const inner = new WeakMap();
  const KINDS = ['Float', 'Double', 'Int32', 'Int64', 'Uint32', 'Uint64', 'Sint32', 'Sint64', 'Fixed32', 'Fixed64', 'Sfixed32', 'Sfixed64', 'Bool', 'String', 'Bytes'];
  const wrap = fields => { const message = new Message(); inner.set(message, fields); return message; };
  const unwrap = message => {
    const fields = inner.get(message);
    if (!fields) throw new TypeError('protobuf: expected a protobuf.Message');
    return fields;
  };
  class Message {
    constructor(fields) {
      inner.set(this, native.fields());
      // { 1: ['String', 'a'], 2: ['Int32', 5] }
      for (const [field, [kind, value]] of Object.entries(fields ?? {})) this[`set${kind}${Array.isArray(value) ? 'Array' : ''}`](Number(field), value);
    }
    getWireType(field) { return unwrap(this).wireType(field); }
    getMessage(field) { const all = unwrap(this).getMessages(field); return all.length ? wrap(all.at(-1)) : null; }
    getMessageArray(field) { return unwrap(this).getMessages(field).map(wrap); }
    setMessage(field, message) { unwrap(this).setMessages(field, [unwrap(message)]); return this; }
    setMessageArray(field, messages) { unwrap(this).setMessages(field, messages.map(unwrap)); return this; }
  }
  for (const kind of KINDS) {
    Message.prototype[`get${kind}`] = function (field) { return unwrap(this).get(field, kind); };
    Message.prototype[`get${kind}Array`] = function (field) { return unwrap(this).getAll(field, kind); };
    Message.prototype[`set${kind}`] = function (field, value) { unwrap(this).set(field, kind, value); return this; };
    Message.prototype[`set${kind}Array`] = function (field, values) { unwrap(this).setAll(field, kind, values); return this; };
  }
  globalThis.protobuf = {
    Message,
    decode: data => {
      if (data === null || data === undefined) throw new TypeError('protobuf.decode() expects Data, got nothing');
      return wrap(native.fields(data));
    },
    encode: message => unwrap(message).encode(),
  };
}
