// Answers of upstream, by type and name, for as long as the shortest of their records lives.
((
  cache = new algo.Cache(undefined, undefined, { size: 10000 }),
  now = () => Date.now() / 1000,
) => ({
  getDNS: key => (
    (found = cache.find(key)) => (
      found && (
        found.until > now() ? found.record : void cache.remove(key)
      )
    )
  )(),
  setDNS: (key, record) => (
    (ttl = Math.min(...(record.rr ?? []).map(answer => answer.ttl))) => (
      // An answer without records says nothing about how long it holds.
      Number.isFinite(ttl) && cache.set(key, { record, until: now() + ttl })
    )
  )(),
}))()
