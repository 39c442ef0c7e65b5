// bpf: programs for the kernel are not loaded here. Every way to one says so, and what to do.
() => {
  const refuse = name => () => {
    throw new Error(`bpf.${name}(): this pipy loads no BPF programs into the kernel; load them with bpftool or ip, and handle their traffic here`);
  };
  globalThis.bpf = Object.fromEntries(['object', 'pin', 'attach', 'detach', 'cgroup'].map(name => [name, refuse(name)]));
}
