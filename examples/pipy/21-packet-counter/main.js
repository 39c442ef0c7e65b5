#!/usr/bin/env pipy
// Loads a program that counts and drops packets (counter.c) into the kernel, before a network device, and shows its maps over HTTP.

var DEVICE = os.env.DEVICE ?? 'lo'
var OBJECT = os.env.OBJECT ?? '/mnt/counter.o'
// In a file system of the type bpf: by this name `ip` finds the program.
var PIN = os.env.PIN ?? '/mnt/bpf/packet-counter'

var object = bpf.object(os.readFile(OBJECT))
var map = (name) => object.maps.find(map => map.name === name)
var sources = map('sources'), blocked = map('blocked')

var program = object.programs.find(program => program.name === 'count').load('BPF_PROG_TYPE_XDP')
bpf.pin(PIN, program.fd)
// In place of one that is there already, for instance of this script before it was loaded again.
pipy.exec(`ip -force link set dev ${DEVICE} xdpgeneric pinned ${PIN}`)
console.info('packets are counted at', DEVICE)

pipy.exit(() => {
  pipy.exec(`ip link set dev ${DEVICE} xdpgeneric off`)
  os.rm(PIN)
})

function counts() {
  return sources.entries()
    .map(([{ ip }, { packets, bytes }]) => ({ source: ip.bytes.join('.'), packets, bytes }))
    .sort((a, b) => b.packets - a.packets)
}

var drops = () => Object.fromEntries(blocked.entries().map(([{ i }, { i: dropped }]) => [i, dropped]))

function answer(status, value) {
  return new Message({ status, headers: { 'content-type': 'application/json' } }, JSON.stringify(value) + '\n')
}

// GET /sources · GET /blocked · PUT /blocked/PROTOCOL · DELETE /blocked/PROTOCOL
pipy.listen(os.env.PORT ?? '127.0.0.1:8080', $ => $
  .serveHTTP(({ head }) => {
    var [, where, protocol] = head.path.split('/')
    if (head.method === 'GET' && where === 'sources') return answer(200, counts())
    if (head.method === 'GET' && where === 'blocked') return answer(200, drops())
    var number = Number(protocol)
    if (where !== 'blocked' || !(number >= 0 && number < 256)) return answer(404, { error: 'sources, blocked, blocked/17' })
    if (head.method === 'PUT') blocked.update({ i: number }, { i: 0 })
    else if (head.method === 'DELETE') blocked.delete({ i: number })
    else return answer(405, { error: 'GET, PUT or DELETE' })
    return answer(200, drops())
  })
)
