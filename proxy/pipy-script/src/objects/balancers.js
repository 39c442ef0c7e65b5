// algo's load balancers: who gets the next piece of work, and the resource that stands for a target while it is borrowed.
native => {
  const inbound = () => __pipy.c[0];
  const weights = targets => (Array.isArray(targets) ? targets.map(target => [target, 1]) : Object.entries(targets ?? {}));
  const ill = (target, ...unhealthy) => unhealthy.some(cache => cache?.get?.(target));

  class Balancer {
    #unhealthy; #borrowed = new WeakMap(); #free = new Map(); #sticky = new Map(); #alone = new Map();
    // Borrowers that have gone give back what they had.
    #gone = new FinalizationRegistry(resource => this.#giveBack(resource));
    constructor(targets, unhealthy) {
      this.targets = new Map();
      this.#unhealthy = unhealthy;
      for (const [target, weight] of weights(targets)) this.set(target, weight);
    }
    set(target, weight) {
      if (weight <= 0) this.targets.delete(target);
      else this.targets.set(target, { weight, current: 0, active: 0 });
    }
    add(target) { this.set(target, 1); }
    healthy(unhealthy) {
      return [...this.targets].filter(([target]) => !ill(target, this.#unhealthy, unhealthy));
    }
    select(key, unhealthy) {
      if (key === undefined || key === null) return this.pick(this.healthy(unhealthy), key);
      const known = this.#sticky.get(key);
      if (known !== undefined && this.targets.has(known) && !ill(known, this.#unhealthy, unhealthy)) {
        this.taken?.(known);
        return known;
      }
      const target = this.pick(this.healthy(unhealthy), key);
      if (target !== undefined) this.#remember(key, target);
      return target;
    }
    #remember(key, target) {
      // LIMIT: keys come from outside; the oldest is forgotten.
      if (this.#sticky.size >= 10000) this.#sticky.delete(this.#sticky.keys().next().value);
      this.#sticky.set(key, target);
    }
    deselect(target) {
      const known = this.targets.get(target);
      if (known && known.active > 0) known.active--;
    }
    borrow(borrower, key, unhealthy) {
      borrower ??= inbound();
      const held = borrower && this.#borrowed.get(borrower);
      if (held && this.targets.has(held.id) && !ill(held.id, this.#unhealthy, unhealthy)) return held;
      const id = this.select(key, unhealthy);
      if (id === undefined) return null;
      if (!borrower) {
        if (!this.#alone.has(id)) this.#alone.set(id, { id });
        return this.#alone.get(id);
      }
      const resource = this.#free.get(id)?.pop() ?? { id };
      this.#borrowed.set(borrower, resource);
      this.#gone.register(borrower, resource);
      return resource;
    }
    next(borrower, key, unhealthy) { return this.borrow(borrower, key, unhealthy); }
    #giveBack(resource) {
      this.deselect(resource.id);
      if (!this.#free.has(resource.id)) this.#free.set(resource.id, []);
      this.#free.get(resource.id).push(resource);
    }
  }

  // Smooth weighted: everybody gains their weight, the richest works and pays the sum.
  const smooth = targets => {
    const sum = targets.reduce((sum, [, state]) => sum + state.weight, 0);
    let best;
    for (const entry of targets) {
      entry[1].current += entry[1].weight;
      if (!best || entry[1].current > best[1].current) best = entry;
    }
    if (best) best[1].current -= sum;
    return best?.[0];
  };

  class RoundRobinLoadBalancer extends Balancer {
    pick(targets) { return smooth(targets); }
  }
  class LeastWorkLoadBalancer extends Balancer {
    pick(targets) {
      let best;
      for (const entry of targets) if (!best || entry[1].active / entry[1].weight < best[1].active / best[1].weight) best = entry;
      if (best) best[1].active++;
      return best?.[0];
    }
    taken(target) { this.targets.get(target).active++; }
  }
  class HashingLoadBalancer extends Balancer {
    // Each target draws a number for the key and the highest wins: a change of the targets moves only the keys that must move.
    select(key, unhealthy) {
      let best, highest = -1;
      for (const [target] of this.healthy(unhealthy)) {
        const drawn = native.hash(`${key}\u0000${target}`);
        if (drawn > highest) [best, highest] = [target, drawn];
      }
      return best;
    }
    next(_, key, unhealthy) { return this.borrow(undefined, key, unhealthy); }
  }

  class LoadBalancer {
    #algorithm; #key; #weight; #capacity; #targets = new Map();
    constructor(targets, options) {
      this.#algorithm = options?.algorithm ?? 'round-robin';
      if (!['round-robin', 'least-load'].includes(this.#algorithm)) {
        throw new TypeError(`unknown algorithm: ${this.#algorithm}; there are round-robin and least-load`);
      }
      this.#key = options?.key ?? (target => target);
      this.#weight = options?.weight ?? (target => target?.weight ?? 1);
      this.#capacity = options?.capacity;
      this.provision(targets ?? []);
    }
    provision(targets) {
      const before = this.#targets;
      this.#targets = new Map(targets.map(target => {
        const key = this.#key(target);
        const state = before.get(key) ?? { current: 0, active: 0, tags: new Map() };
        return [key, Object.assign(state, { target, weight: this.#weight(target), capacity: this.#capacity?.(target) ?? Infinity })];
      }));
    }
    #able(validator) {
      return [...this.#targets].filter(([, state]) =>
        state.weight > 0 && state.active < state.capacity && (!validator || validator(state.target)));
    }
    #choose(validator) {
      const able = this.#able(validator);
      if (this.#algorithm === 'round-robin') return this.#targets.get(smooth(able));
      let best;
      for (const [, state] of able) if (!best || state.active / state.weight < best.active / best.weight) best = state;
      return best;
    }
    schedule(count, validator) {
      return Array.from({ length: count }, () => this.#choose(validator)?.target).filter(target => target !== undefined);
    }
    allocate(tag, validator) {
      const able = tag === undefined ? undefined : this.#able(validator).find(([, state]) => state.tags.get(tag) > 0)?.[1];
      const state = able ?? this.#choose(validator);
      if (!state) return undefined;
      state.active++;
      if (tag !== undefined) state.tags.set(tag, (state.tags.get(tag) ?? 0) + 1);
      let held = true;
      return {
        target: state.target,
        free: () => {
          if (!held) return;
          held = false;
          state.active--;
          if (tag === undefined) return;
          if (state.tags.get(tag) > 1) state.tags.set(tag, state.tags.get(tag) - 1);
          else state.tags.delete(tag);
        },
      };
    }
  }
  Object.assign(algo, { RoundRobinLoadBalancer, LeastWorkLoadBalancer, HashingLoadBalancer, LoadBalancer });
}
