// Which records a client sees: those of its line, where a record is for lines only; all of them where the client is on none.
((
  lines = Object.entries(JSON.decode(pipy.load('smart-line.json'))).map(
    ([name, networks]) => ({ name, masks: networks.map(network => new Netmask(network)) })
  ),
  lineOf = address => lines.find(({ masks }) => masks.some(mask => mask.contains(address)))?.name,
) => ({
  filter: (address, record) => (
    (line = lineOf(address)) => (
      !line || !record.labels ? record : {
        ...record,
        rr: record.rr.filter((_, i) => !record.labels[i] || record.labels[i].includes(line)),
      }
    )
  )(),
}))()
