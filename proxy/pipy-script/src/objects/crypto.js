// crypto: hashes, signatures, ciphers, keys and certificates. JWT and JWK are in jwt.js.
native => {
  const nothing = value => value === null || value === undefined;
  const bytes = (data, encoding) => (data instanceof Data ? data : new Data(String(data), encoding ?? 'utf8'));
  const show = (data, encoding) => (encoding === undefined ? data : data.toString(encoding));
  const given = (what, from) => {
    if (nothing(from)) throw new TypeError(`crypto.${what} expects PEM, got nothing: is the file there?`);
    return from;
  };
  const inner = new WeakMap();
  native.inner = inner;

  class Hash {
    #native;
    constructor(name) { this.#native = native.hashing(String(name)); }
    update(data, encoding) { this.#native.update(bytes(data, encoding)); return this; }
    digest(encoding) { return show(this.#native.digest(), encoding); }
  }
  class Hmac {
    #native;
    constructor(name, key) { this.#native = native.authenticating(String(name), bytes(key)); }
    update(data, encoding) { this.#native.update(bytes(data, encoding)); return this; }
    digest(encoding) { return show(this.#native.digest(), encoding); }
  }

  const KINDS = { rsa: ['rsa', 2048], ec: ['ec', 256], ed25519: ['ed25519', 0] };
  const CURVES = { 'P-256': 256, prime256v1: 256, secp256r1: 256, 'P-384': 384, secp384r1: 384, 'P-521': 521, secp521r1: 521 };
  class PrivateKey {
    constructor(from) {
      if (from instanceof PrivateKey) { inner.set(this, inner.get(from)); return; }
      given('PrivateKey', from);
      if (typeof from === 'object' && !(from instanceof Data)) {
        const type = String(from.type ?? 'rsa').toLowerCase();
        const [kind, size] = KINDS[type] ?? [type, 0];
        const curve = from.curve ?? from.namedCurve;
        if (curve !== undefined && !(curve in CURVES)) throw new TypeError(`crypto: unknown curve: ${curve}; there are P-256, P-384, P-521`);
        inner.set(this, native.keys.generate(kind, CURVES[curve] ?? from.bits ?? size));
      } else {
        inner.set(this, native.keys.private(from));
      }
    }
    get type() { return inner.get(this).kind(); }
    toPEM() { return new Data(inner.get(this).pem()); }
  }
  class PublicKey {
    constructor(from) {
      if (from instanceof PublicKey) { inner.set(this, inner.get(from)); return; }
      if (from instanceof PrivateKey) { inner.set(this, inner.get(from).public()); return; }
      if (from instanceof Certificate) { inner.set(this, from.facts().publicKey); return; }
      inner.set(this, native.keys.public(given('PublicKey', from)));
    }
    get type() { return inner.get(this).kind(); }
    toPEM() { return new Data(inner.get(this).pem()); }
  }
  const privateKey = from => inner.get(from instanceof PrivateKey ? from : new PrivateKey(from));
  const publicKey = from => inner.get(from instanceof PublicKey ? from : new PublicKey(from));
  native.publicKey = publicKey;
  native.privateKey = privateKey;
  native.PublicKey = PublicKey;

  const style = options => [options?.padding === 'pss', options?.dsaEncoding === 'ieee-p1363'];
  const signing = what => class {
    #hash; #data = new Data();
    constructor(hash) {
      if (typeof hash !== 'string') throw new TypeError(`crypto.${what} expects the name of a hash`);
      this.#hash = hash;
    }
    update(data, encoding) { this.#data.push(bytes(data, encoding)); return this; }
    run(act) { return act(this.#hash, this.#data); }
  };
  class Sign extends signing('Sign') {
    sign(key, encoding, options) {
      if (typeof encoding === 'object') [encoding, options] = [undefined, encoding];
      return show(this.run((hash, data) => privateKey(key).sign(hash, ...style(options), data)), encoding);
    }
  }
  class Verify extends signing('Verify') {
    verify(key, signature, encoding, options) {
      if (typeof encoding === 'object') [encoding, options] = [undefined, encoding];
      return this.run((hash, data) => publicKey(key).verify(hash, ...style(options), data, bytes(signature, encoding)));
    }
  }

  const cipher = encrypts => class {
    #native;
    constructor(name, options) {
      if (typeof options !== 'object' || options === null) throw new TypeError('crypto: a cipher expects { key, iv }');
      const parts = Object.fromEntries(['key', 'iv', 'aad', 'tag'].map(name => [name, nothing(options[name]) ? undefined : bytes(options[name])]));
      this.#native = native.cipher(String(name), encrypts, parts);
    }
    update(data, encoding) { return this.#native.update(bytes(data, encoding)); }
    final() { return this.#native.finish(); }
    get tag() { return this.#native.tag(); }
  };
  class Cipher extends cipher(true) {}
  class Decipher extends cipher(false) {}

  const blocks = (what, from) => {
    const found = given(what, from).toString().match(/-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g);
    if (!found) throw new Error(`crypto.${what}: no Certificate in this PEM`);
    return found.map(block => `${block}\n`);
  };
  const words = value => (nothing(value) ? [] : Array.isArray(value) ? value.map(String) : String(value).split(',').map(word => word.trim()).filter(Boolean));
  const serial = value => {
    if (nothing(value)) return undefined;
    const digits = typeof value === 'string' ? value : BigInt(value).toString(16);
    return new Data(digits.length % 2 ? `0${digits}` : digits, 'hex');
  };
  const issue = options => {
    const extensions = options.extensions ?? {};
    const constraints = words(extensions.basicConstraints);
    const usages = words(extensions.keyUsage);
    const key = options.privateKey;
    if (nothing(key)) throw new TypeError('crypto.Certificate: privateKey is missing: the key that signs');
    const from = Date.now() / 1000 + (options.timeOffset ?? 0);
    const length = constraints.map(word => /^pathlen:(\d+)$/.exec(word)?.[1]).find(Boolean);
    return native.certificates.make({
      subject: options.subject ?? {},
      alternatives: [...words(options.subjectAltNames), ...words(extensions.subjectAltName)],
      ca: constraints.includes('CA:TRUE'),
      pathLength: length === undefined ? undefined : Number(length),
      usages: usages.filter(word => word !== 'critical'),
      extended: words(extensions.extendedKeyUsage).filter(word => word !== 'critical'),
      from,
      until: from + (options.days ?? 365) * 86400,
      serial: serial(options.serial),
      publicKey: nothing(options.publicKey) ? privateKey(key).public() : publicKey(options.publicKey),
      key: privateKey(key).pem(),
      issuer: options.issuer instanceof Certificate ? options.issuer.toPEM().toString() : typeof options.issuer === 'string' ? options.issuer : undefined,
      issuerName: options.issuer instanceof Certificate || typeof options.issuer === 'string' ? undefined : options.issuer,
    });
  };
  class Certificate {
    #pem; #facts;
    constructor(from) {
      const made = typeof given('Certificate', from) === 'object' && !(from instanceof Data);
      this.#pem = made ? issue(from) : blocks('Certificate', from)[0];
      // A certificate that cannot be read is told where it is given.
      this.#facts = native.certificates.read(this.#pem);
    }
    facts() { return this.#facts; }
    get subject() { return this.#facts.subject; }
    get issuer() { return this.#facts.issuer; }
    get subjectAltNames() { return this.#facts.subjectAltNames; }
    get serial() { return this.#facts.serial; }
    get isCA() { return this.#facts.ca; }
    get notBefore() { return new Date(this.#facts.notBefore); }
    get notAfter() { return new Date(this.#facts.notAfter); }
    get publicKey() { return new PublicKey(this); }
    toPEM() { return new Data(this.#pem); }
  }
  class CertificateChain {
    #certificates;
    constructor(from) { this.#certificates = blocks('CertificateChain', from).map(block => new Certificate(block)); }
    get certificates() { return [...this.#certificates]; }
    toPEM() { return new Data(this.#certificates.map(certificate => certificate.toPEM().toString()).join('')); }
  }
  globalThis.crypto = {
    Hash, Hmac, Sign, Verify, Cipher, Decipher, PrivateKey, PublicKey, Certificate, CertificateChain,
    randomBytes: count => native.random(count),
    randomUUID: () => native.uuid(),
  };
}
