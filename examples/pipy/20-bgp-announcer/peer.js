// One session of BGP (RFC 4271, section 8): what is said when, as plain functions. Nothing here knows of sockets.
//
// In: messages of the peer, and the time that passes, second by second. Out: messages for it.

var KEEPALIVE = { type: 'KEEPALIVE' }
var IPV6 = 2, UNICAST = 1
var HOLD_TIMER_EXPIRED = 4, FSM_ERROR = 5, CEASE = 6

function ended(errorCode, errorSubcode) {
  return { type: 'NOTIFICATION', body: { errorCode, errorSubcode: errorSubcode ?? 0 } }
}

// Says a 16-bit number as the bytes of a capability of families.
var family = (afi) => new Data([afi >> 8, afi & 255, 0, UNICAST])

export function open(config) {
  return {
    type: 'OPEN',
    body: {
      myAS: config.as,
      identifier: config.id,
      holdTime: config.holdTime,
      capabilities: { 1: [family(1), family(IPV6)], 2: null, 65: config.as },
    },
  }
}

// The state of a new session.
export function begin(config) {
  return { state: 'OpenSent', config, hold: 240, keepalive: 0, silent: 0, quiet: 0, as4: false, external: true, said: [] }
}

function attributes(session) {
  var { config, external } = session
  return [
    { name: 'ORIGIN', value: 0 },
    { name: 'AS_PATH', value: external ? [[config.as]] : [] },
    ...(external ? [] : [{ name: 'LOCAL_PREF', value: 100 }]),
    ...(config.communities?.length ? [{ name: 'COMMUNITIES', value: config.communities }] : []),
  ]
}

var is6 = (route) => route.includes(':')

// What makes the peer know these routes, and forget those that it was told before.
export function update(session, routes) {
  var gone = session.said.filter(route => !routes.includes(route))
  var messages = []
  var v4 = routes.filter(route => !is6(route)), v6 = routes.filter(is6)
  var gone4 = gone.filter(route => !is6(route)), gone6 = gone.filter(is6)
  if (v4.length || gone4.length) {
    messages.push({
      type: 'UPDATE',
      body: {
        withdrawnRoutes: gone4,
        pathAttributes: v4.length ? [...attributes(session), { name: 'NEXT_HOP', value: session.config.nextHop }] : [],
        destinations: v4,
      },
    })
  }
  if (gone6.length) {
    var value = { afi: IPV6, safi: UNICAST, withdrawnRoutes: gone6 }
    messages.push({ type: 'UPDATE', body: { pathAttributes: [{ name: 'MP_UNREACH_NLRI', value }] } })
  }
  if (v6.length) {
    var reach = { afi: IPV6, safi: UNICAST, nextHop: session.config.nextHop6, destinations: v6 }
    messages.push({ type: 'UPDATE', body: { pathAttributes: [{ name: 'MP_REACH_NLRI', value: reach }, ...attributes(session)] } })
  }
  session.said = [...routes]
  return messages
}

// A message has come. Gives what is to be said; a session that is over says so in its state.
export function receive(session, { type, body }) {
  session.silent = 0
  if (type === 'NOTIFICATION') {
    console.warn('the peer has ended the session: error', body.errorCode, body.errorSubcode)
    session.state = 'Idle'
    return []
  }
  if (session.state === 'OpenSent' && type === 'OPEN') {
    var long = body.capabilities['65']?.toArray()
    var as = long ? long.reduce((sum, byte) => sum * 256 + byte, 0) : body.myAS
    session.as4 = Boolean(long)
    session.external = as !== session.config.as
    session.hold = Math.min(session.config.holdTime, body.holdTime)
    session.keepalive = Math.floor(session.hold / 3)
    session.state = 'OpenConfirm'
    console.info('the peer is', body.identifier, 'of AS', as)
    return [KEEPALIVE]
  }
  if (session.state === 'OpenConfirm' && type === 'KEEPALIVE') {
    session.state = 'Established'
    console.info('the session is established')
    return update(session, session.config.routes)
  }
  if (session.state === 'Established' && type === 'ROUTE-REFRESH') return update(session, session.said)
  if (session.state === 'Established' && type !== 'OPEN') return []
  session.state = 'Idle'
  return [ended(FSM_ERROR)]
}

// A second has passed.
export function tick(session) {
  if (session.state === 'Idle' || !session.hold) return []
  if (++session.silent > session.hold) {
    console.warn('the peer is silent')
    session.state = 'Idle'
    return [ended(HOLD_TIMER_EXPIRED)]
  }
  if (session.state === 'OpenSent' || ++session.quiet < session.keepalive) return []
  session.quiet = 0
  return [KEEPALIVE]
}

// The last message of who leaves: administrative shutdown (RFC 4486).
export function leave(session) {
  session.state = 'Idle'
  return [ended(CEASE, 2)]
}
