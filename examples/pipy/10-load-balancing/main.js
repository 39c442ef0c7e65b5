// Load balancing: requests by weight to the servers that are well; one that fails a request is left out until it is well again.
//
// Servers are asked for their health all the time. A request that could not be sent is sent to another server: GET and HEAD also
// when the connection broke, for they change nothing.
((
  { servers, health } = JSON.decode(pipy.load('config.json')),
  ill = new algo.Cache,
  balancer = new algo.RoundRobinLoadBalancer(servers, ill),
  requests = new stats.Counter('lb_requests', ['server']),

  is = (server, well, why) => (
    well === !ill.get(server) || console.log(server, 'is', well ? 'well' : `ill: ${why}`),
    well ? ill.remove(server) : ill.set(server, true)
  ),
) => pipy({
  _server: null,
  _checked: null,
  _head: null,
  _attempts: 0,
})

.task(`${health.everySeconds * 1000}ms`)
  .onStart(() => new Message({ method: 'GET', path: health.path, headers: { host: 'health' } }))
  .fork(Object.keys(servers)).to($ => $
    .onStart(server => void (_checked = server))
    .muxHTTP(() => ({})).to($ => $
      .connect(() => _checked, { connectTimeout: 1, idleTimeout: 1 })
    )
    .handleMessageStart(({ head }) => is(_checked, head.status === 200, head.status))
  )
  // The next round begins when this one is over.
  .wait(() => new Timeout(health.everySeconds).wait())
  .replaceMessage(() => new StreamEnd)

.listen(os.env.PORT ?? 8080)
.demuxHTTP().to($ => $
  .handleMessageStart(({ head }) => (_head = head, _attempts = 0))
  .replay({ delay: 0 }).to($ => $
    .handleMessageStart(() => (_server = balancer.select(undefined), _attempts++))
    .branch(
      () => _server, $ => $
        .muxHTTP(() => _server).to($ => $
          .connect(() => _server, { connectTimeout: 1 })
        )
        .replaceMessageStart(start => (
          // What muxHTTP answers where no server did: 502 and 504 without headers.
          start.head.status >= 502 && Object.keys(start.head.headers).length === 0
            ? (
              is(_server, false, start.head.statusText),
              _attempts < Object.keys(servers).length && ['GET', 'HEAD'].includes(_head.method) ? new StreamEnd('Replay') : start
            )
            : (requests.withLabels(_server).increase(), start)
        )),
      $ => $.replaceMessage(new Message({ status: 503, headers: { 'retry-after': '1' } }, 'No server is well\n'))
    )
  )
)

)()
