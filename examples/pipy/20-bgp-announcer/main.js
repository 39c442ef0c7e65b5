#!/usr/bin/env pipy
// Announces routes to a router by BGP; routes are added and withdrawn over HTTP while the session stays.

import { begin, leave, open, receive, tick, update } from './peer.js'

var config = JSON.decode(pipy.load('config.json'))
var routes = [...config.routes]

var session = null
var leaving = false
// What waits to be said, and who waits for something to say.
var waiting = []
var wanted = null

function say(messages) {
  waiting.push(...messages)
  wanted?.()
}

// The next message; when the session is over, the end.
function next() {
  if (waiting.length) return Promise.resolve(new Message(null, waiting.shift()))
  if (session.state === 'Idle') return Promise.resolve(new StreamEnd)
  return new Promise(resolve => { wanted = resolve }).then(() => (wanted = null, next()))
}

var connection = pipeline($ => $
  .onStart(() => {
    session = begin({ ...config, routes })
    waiting = [open(config)]
    return new Message
  })
  .produce(next)
  .encodeBGP({ enableAS4: () => session.as4 })
  .connect(config.peer, { idleTimeout: 0, connectTimeout: 5 })
  .decodeBGP({ enableAS4: () => session.as4 })
  .handleMessage(message => say(receive(session, message.payload)))
  .handleStreamEnd(end => {
    session.state = 'Idle'
    wanted?.()
    console.info('no session:', end.error ?? 'the peer has left')
  })
)

function live() {
  connection.spawn()
    .then(() => new Timeout(2).wait())
    .then(() => { if (!leaving) live() })
}

function seconds() {
  if (session) say(tick(session))
  if (!leaving) new Timeout(1).wait().then(seconds)
}

// The router forgets the routes at once, and does not wait for the hold time to pass.
pipy.exit(() => {
  leaving = true
  if (session) say(leave(session))
})

live()
seconds()

function answer(status, value) {
  return new Message({ status, headers: { 'content-type': 'application/json' } }, JSON.stringify(value) + '\n')
}

// GET / · PUT /ROUTE · DELETE /ROUTE, such as /198.51.100.0/24
pipy.listen(os.env.PORT ?? '127.0.0.1:8080', $ => $
  .serveHTTP(request => {
    var { method, path } = request.head
    var route = path.slice(1)
    if (method === 'GET') return answer(200, { state: session?.state, routes })
    try {
      new Netmask(route)
    } catch (error) {
      return answer(400, { error: error.message })
    }
    var others = routes.filter(known => known !== route)
    if (method === 'PUT') routes = [...others, route]
    else if (method === 'DELETE') routes = others
    else return answer(405, { error: 'GET, PUT or DELETE' })
    if (session?.state === 'Established') say(update(session, routes))
    return answer(200, { state: session?.state, routes })
  })
)
