// Objects that are made when they are first named.
native => {
  native.groups.forEach((names, number) => {
    for (const name of names) {
      const plain = value => Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: true });
      Object.defineProperty(globalThis, name, {
        configurable: true, enumerable: true,
        get: () => { native.make(native, number); return globalThis[name]; },
        set: plain,
      });
    }
  });
}
