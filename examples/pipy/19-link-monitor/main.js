#!/usr/bin/env pipy
// Links and addresses of this machine over HTTP: what there is, what changes, and addresses added and deleted.
//
// The kernel tells of changes through a netlink socket that is in its groups; another asks for what there is already.

import { GET_LINK, GET_ADDRESS, NEW_ADDRESS, DELETE_ADDRESS, GROUPS, list, change, read, outcome } from './rtnl.js'

var KERNEL = 'pid=0;groups=0'
var ERRORS = { 1: 'not permitted', 17: 'is there already', 99: 'is not there' }

// By the link's index: { name, mtu, up, addresses }.
var links = {}

function note(message) {
  var told = read(message)
  if (!told) return
  var known = links[told.index]
  if (told.kind === 'link') {
    if (told.gone) {
      console.info('link', known?.name, 'is gone')
      delete links[told.index]
      return
    }
    if (!known) console.info('link', told.link.name, 'is new')
    else if (known.up !== told.link.up) console.info('link', told.link.name, told.link.up ? 'is up' : 'is down')
    links[told.index] = { ...told.link, addresses: known?.addresses ?? [] }
  } else if (known) {
    var others = known.addresses.filter(address => address !== told.address)
    if (told.gone) {
      console.info('address', told.address, 'has left', known.name)
      known.addresses = others
    } else {
      if (others.length === known.addresses.length) console.info('address', told.address, 'is on', known.name)
      known.addresses = [...others, told.address]
    }
  }
}

// Ends where the kernel had more to tell than the socket could hold: something is missing then, and all is asked for again.
var watch = pipeline($ => $
  .onStart(new Data)
  .connect(KERNEL, { protocol: 'netlink', bind: `pid=0;groups=${GROUPS}` })
  .decodeNetlink()
  .handleMessage(note)
)

var $outcome

// Sends one request; ends with the number that the kernel answers, or when all has been listed.
var ask = pipeline($ => $
  .onStart(request => request)
  .encodeNetlink()
  .connect(KERNEL, { protocol: 'netlink', idleTimeout: 5 })
  .decodeNetlink()
  .replaceMessage(message => {
    note(message)
    // NLMSG_DONE ends a list.
    $outcome = message.head.type === 3 ? 0 : outcome(message)
    if ($outcome !== undefined) return new StreamEnd
  })
  .onEnd(() => $outcome)
)

function begin() {
  links = {}
  watch.spawn().then(begin)
  // One list at a time is what a socket of netlink can be asked for, and addresses are of links.
  ask.spawn(list(GET_LINK)).then(() => ask.spawn(list(GET_ADDRESS)))
}

begin()

function answer(status, value) {
  return new Message({ status, headers: { 'content-type': 'application/json' } }, JSON.stringify(value) + '\n')
}

// GET /links · PUT /links/NAME/ADDRESS/PREFIX · DELETE /links/NAME/ADDRESS/PREFIX
pipy.listen(os.env.PORT ?? '127.0.0.1:8080', $ => $
  .serveHTTP(request => {
    var [, where, name, ...address] = request.head.path.split('/')
    if (where !== 'links') return answer(404, { error: 'ask for /links' })
    if (request.head.method === 'GET' && !name) return answer(200, Object.values(links))
    var type = { PUT: NEW_ADDRESS, DELETE: DELETE_ADDRESS }[request.head.method]
    var index = Object.keys(links).find(index => links[index].name === name)
    if (!type || !index) return answer(404, { error: `there is no link ${name}` })
    try {
      var wanted = change(type, Number(index), address.join('/'))
    } catch (error) {
      return answer(400, { error: error.message })
    }
    return ask.spawn(wanted).then(number => number === 0
      ? answer(200, { [type === NEW_ADDRESS ? 'added' : 'deleted']: address.join('/') })
      : answer(409, { error: ERRORS[number] ?? `error ${number}` }))
  })
)
