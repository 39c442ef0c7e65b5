// crypto.JWT and crypto.JWK: tokens of RFC 7515 and keys of RFC 7517.
//
// A token is verified by the algorithm that its key is for: a key of RSA never verifies HS256, and 'none' verifies nothing.
native => {
  const text = part => new Data(part, 'base64url').toString();
  const bits = algorithm => algorithm.slice(2);
  const FAMILIES = { HS: 'oct', RS: 'rsa', PS: 'rsa', ES: 'ec' };
  const SIZES = { 256: 64, 384: 96, 512: 132 };
  const CURVES = {
    'P-256': ['2a8648ce3d030107', 32, 'ES256'], 'P-384': ['2b81040022', 48, 'ES384'], 'P-521': ['2b81040023', 66, 'ES512'],
  };

  // DER, as far as a SubjectPublicKeyInfo needs it; all in hexadecimal.
  const sized = hex => {
    const length = hex.length / 2;
    if (length < 128) return length.toString(16).padStart(2, '0') + hex;
    const digits = length.toString(16);
    const even = digits.length % 2 ? `0${digits}` : digits;
    return (0x80 + even.length / 2).toString(16) + even + hex;
  };
  const sequence = (...parts) => `30${sized(parts.join(''))}`;
  const integer = hex => {
    const bare = hex.replace(/^(00)+(?=..)/, '');
    return `02${sized(parseInt(bare.slice(0, 2), 16) > 127 ? `00${bare}` : bare)}`;
  };
  const bitString = hex => `03${sized(`00${hex}`)}`;
  const hex = (part, length = 0) => new Data(part, 'base64url').toString('hex').padStart(length * 2, '0');
  const spki = {
    RSA: key => sequence(sequence('06092a864886f70d010101', '0500'), bitString(sequence(integer(hex(key.n)), integer(hex(key.e))))),
    EC: key => {
      const [oid, length] = CURVES[key.crv] ?? [];
      if (!oid) throw new Error(`unknown curve: ${key.crv}`);
      return sequence(sequence('06072a8648ce3d0201', `06${sized(oid)}`), bitString(`04${hex(key.x, length)}${hex(key.y, length)}`));
    },
    OKP: key => {
      if (key.crv !== 'Ed25519') throw new Error(`unknown curve: ${key.crv}`);
      return sequence(sequence('06032b6570'), bitString(hex(key.x)));
    },
  };

  class JWK {
    #key; #secret; #error;
    constructor(from) {
      const json = typeof from === 'string' || from instanceof Data ? JSON.parse(from.toString()) : from;
      if (typeof json !== 'object' || json === null) throw new TypeError('crypto.JWK expects an object or JSON');
      Object.assign(this, { kty: json.kty, kid: json.kid, alg: json.alg, use: json.use });
      try {
        if (json.kty === 'oct') this.#secret = new Data(json.k, 'base64url');
        else if (spki[json.kty]) this.#key = native.keys.publicDer(new Data(spki[json.kty](json), 'hex'));
        else this.#error = `unknown kty: ${json.kty}`;
      } catch (error) {
        this.#error = String(error?.message ?? error);
      }
    }
    get isValid() { return this.#error === undefined; }
    get error() { return this.#error; }
    get secret() { return this.#secret; }
    get native() { return this.#key; }
    toPEM() {
      if (!this.#key) throw new Error('crypto.JWK: a secret has no PEM');
      return new Data(this.#key.pem());
    }
  }

  // What a key is, whatever it came as: a secret, or a public key.
  const read = key => {
    if (key instanceof JWK) {
      if (!key.isValid) throw new Error(`crypto.JWK: ${key.error}`);
      return key.secret ? { kind: 'oct', secret: key.secret } : { kind: key.native.kind(), public: key.native, alg: key.alg };
    }
    const plain = typeof key === 'string' || key instanceof Data ? key.toString() : undefined;
    if (plain !== undefined && !plain.includes('-----BEGIN ')) return { kind: 'oct', secret: key };
    if (plain === undefined && typeof key === 'object' && key !== null && 'kty' in key) return read(new JWK(key));
    const found = native.publicKey(key);
    return { kind: found.kind(), public: found };
  };
  const familyOf = algorithm => (algorithm === 'EdDSA' ? 'ed25519' : FAMILIES[String(algorithm).slice(0, 2)]);
  const known = algorithm => /^(HS|RS|PS|ES)(256|384|512)$|^EdDSA$/.test(String(algorithm));
  const same = (a, b) => {
    const [left, right] = [a.toArray(), b.toArray()];
    return left.length === right.length && left.reduce((all, byte, i) => all | (byte ^ right[i]), 0) === 0;
  };
  const style = algorithm => [algorithm.startsWith('PS'), algorithm.startsWith('ES')];
  const hashOf = algorithm => (algorithm === 'EdDSA' ? 'sha512' : `sha${bits(algorithm)}`);

  class JWT {
    #header; #payload; #signed; #signature; #valid = false;
    constructor(token) {
      const parts = String(token ?? '').trim().split('.');
      if (parts.length !== 3) return;
      try {
        this.#header = JSON.parse(text(parts[0]));
        this.#payload = JSON.parse(text(parts[1]));
        this.#signature = new Data(parts[2], 'base64url');
        this.#signed = `${parts[0]}.${parts[1]}`;
        this.#valid = typeof this.#header === 'object' && this.#header !== null && known(this.#header.alg);
      } catch { /* It is not valid, which is what it says. */ }
    }
    get isValid() { return this.#valid; }
    get header() { return this.#header; }
    get payload() { return this.#payload; }
    verify(key) {
      if (!this.#valid) return false;
      const algorithm = this.#header.alg;
      const found = read(key);
      if (found.kind !== familyOf(algorithm) || (found.alg !== undefined && found.alg !== algorithm)) return false;
      if (found.secret !== undefined) {
        const hmac = new crypto.Hmac(hashOf(algorithm), found.secret);
        hmac.update(this.#signed);
        return same(hmac.digest(), this.#signature);
      }
      if (algorithm.startsWith('ES') && this.#signature.size !== SIZES[bits(algorithm)]) return false;
      // A curve that is not the algorithm's.
      try { return found.public.verify(hashOf(algorithm), ...style(algorithm), new Data(this.#signed), this.#signature); } catch { return false; }
    }
    // A new token, as text.
    static sign(payload, key, options) {
      const { algorithm = 'HS256', header } = options ?? {};
      if (!known(algorithm)) throw new TypeError(`crypto.JWT: unknown algorithm: ${algorithm}`);
      const encode = value => new Data(JSON.stringify(value)).toString('base64url');
      const signed = `${encode({ alg: algorithm, typ: 'JWT', ...header })}.${encode(payload)}`;
      if (algorithm.startsWith('HS')) {
        const hmac = new crypto.Hmac(hashOf(algorithm), key);
        hmac.update(signed);
        return `${signed}.${hmac.digest('base64url')}`;
      }
      const found = native.privateKey(key);
      if (found.kind() !== familyOf(algorithm)) throw new TypeError(`crypto.JWT: ${algorithm} is not signed with a key of ${found.kind()}`);
      return `${signed}.${found.sign(hashOf(algorithm), ...style(algorithm), new Data(signed)).toString('base64url')}`;
    }
  }
  Object.assign(crypto, { JWT, JWK });
}
