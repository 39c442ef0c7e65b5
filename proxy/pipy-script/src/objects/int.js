// Int: whole numbers of a fixed width. What does not fit wraps around, as in C; a JavaScript number is exact up to 53 bits only.
() => {
  const widths = { i8: 8, i16: 16, i32: 32, i64: 64, u8: 8, u16: 16, u32: 32, u64: 64 };
  const big = value => {
    if (value instanceof Int) return value.toBigInt();
    if (typeof value === 'number') {
      if (!Number.isFinite(value)) throw new RangeError(`Int: ${value} is no whole number`);
      return BigInt(Math.trunc(value));
    }
    if (value instanceof Data) return value.toArray().reduce((all, byte) => (all << 8n) | BigInt(byte), 0n);
    try { return BigInt(value); } catch { throw new TypeError(`Int: '${value}' is no whole number`); }
  };
  class Int {
    #value; #type;
    // new Int(value), an i64; new Int('u8', value)
    constructor(type, value) {
      if (arguments.length < 2) [type, value] = type instanceof Int ? [type.type, type] : ['i64', type];
      if (!(type in widths)) throw new TypeError(`Int: '${type}' is no type: ${Object.keys(widths).join(', ')} are`);
      this.#type = type;
      this.#value = (this.isSigned ? BigInt.asIntN : BigInt.asUintN)(widths[type], big(value ?? 0));
    }
    #made(value) { return new Int(this.#type, value); }
    get type() { return this.#type; }
    get width() { return widths[this.#type]; }
    get isSigned() { return this.#type[0] === 'i'; }
    get low() { return Number(BigInt.asUintN(32, this.#value)); }
    get high() { return Number(BigInt.asUintN(32, this.#value >> 32n)); }
    eql(other) { return this.#value === big(other); }
    cmp(other) { const right = big(other); return this.#value < right ? -1 : this.#value > right ? 1 : 0; }
    neg() { return this.#made(-this.#value); }
    inc() { return this.#made(this.#value + 1n); }
    dec() { return this.#made(this.#value - 1n); }
    add(other) { return this.#made(this.#value + big(other)); }
    sub(other) { return this.#made(this.#value - big(other)); }
    mul(other) { return this.#made(this.#value * big(other)); }
    #divisor(other) {
      const right = big(other);
      if (right === 0n) throw new RangeError('Int: division by zero');
      return right;
    }
    div(other) { return this.#made(this.#value / this.#divisor(other)); }
    mod(other) { return this.#made(this.#value % this.#divisor(other)); }
    bitNot() { return this.#made(~this.#value); }
    bitAnd(other) { return this.#made(this.#value & big(other)); }
    bitOr(other) { return this.#made(this.#value | big(other)); }
    bitXor(other) { return this.#made(this.#value ^ big(other)); }
    bitShl(count) { return this.#made(this.#value << big(count)); }
    bitShr(count) { return this.#made(this.#value >> big(count)); }
    // Most significant byte first.
    toBytes() {
      const bits = BigInt.asUintN(this.width, this.#value);
      return Array.from({ length: this.width / 8 }, (_, i) => Number((bits >> BigInt(this.width - 8 * (i + 1))) & 255n));
    }
    toBigInt() { return this.#value; }
    toNumber() { return Number(this.#value); }
    toString(radix) { return this.#value.toString(radix); }
    toJSON() { return Number.isSafeInteger(Number(this.#value)) ? Number(this.#value) : this.toString(); }
    valueOf() { return Number(this.#value); }
  }
  globalThis.Int = Int;
}
