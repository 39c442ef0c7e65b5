// Records of our own, by type and name.
((
  records = JSON.decode(pipy.load('records.json')),
  table = records.reduce(
    (table, { labels, ...rr }) => (
      (key = rr.type + '#' + rr.name) => (
        (table[key] ??= []).push({ rr, labels }),
        table
      )
    )(),
    {}
  ),
) => ({
  code: { NOERROR: 0, REFUSED: 5 },
  query: (name, type) => (
    (found = table[type + '#' + name.toLowerCase()]) => (
      found && { rr: found.map(({ rr }) => rr), labels: found.map(({ labels }) => labels) }
    )
  )(),
}))()
