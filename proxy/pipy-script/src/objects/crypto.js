// crypto: hashes, and keys and certificates as they stand in PEM. Not here: making keys and certificates, ciphers, signatures.
native => {
  const bytes = (data, encoding) => (data instanceof Data ? data : new Data(String(data), encoding ?? 'utf8'));
  const show = (data, encoding) => (encoding === undefined ? data : data.toString(encoding));
  class Hash {
    #name; #data = new Data();
    constructor(name) {
      native.digest(name, '');
      this.#name = name;
    }
    update(data, encoding) { this.#data.push(bytes(data, encoding)); }
    digest(encoding) { return show(native.digest(this.#name, this.#data), encoding); }
  }
  class Hmac {
    #name; #key; #data = new Data();
    constructor(name, key) {
      native.hmac(name, key, '');
      [this.#name, this.#key] = [name, key];
    }
    update(data, encoding) { this.#data.push(bytes(data, encoding)); }
    digest(encoding) { return show(native.hmac(this.#name, this.#key, this.#data), encoding); }
  }
  const pem = (what, label, several) => class {
    #text;
    constructor(from) {
      if (from === null || from === undefined) throw new TypeError(`crypto.${what} expects PEM, got nothing: is the file there?`);
      if (typeof from === 'object' && !(from instanceof Data)) throw new Error(`crypto.${what}: making one is not there yet; give PEM`);
      const blocks = from.toString().match(/-----BEGIN ([A-Z0-9 ]+)-----[A-Za-z0-9+/=\s]+-----END \1-----/g) ?? [];
      const found = blocks.filter(block => label.test(block.split('\n', 1)[0]));
      if (found.length === 0) throw new Error(`crypto.${what}: no ${what} in this PEM`);
      this.#text = `${(several ? found : found.slice(0, 1)).join('\n')}\n`;
    }
    toPEM() { return new Data(this.#text); }
  };
  globalThis.crypto = {
    Hash, Hmac,
    PrivateKey: pem('PrivateKey', /PRIVATE KEY/, false),
    PublicKey: pem('PublicKey', /PUBLIC KEY/, false),
    Certificate: pem('Certificate', /CERTIFICATE-/, false),
    CertificateChain: pem('CertificateChain', /CERTIFICATE-/, true),
  };
}
