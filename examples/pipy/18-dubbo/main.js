// Before Dubbo services: calls go to the servers of their interface and version, as config.json says; some are refused.
//
// Heartbeats are answered here. INVARIANT: an answer has the number of its request, for Dubbo clients tell answers apart by it.
((
  { services, refused } = JSON.decode(pipy.load('config.json')),
  calls = new stats.Counter('dubbo_calls', ['service', 'method', 'result']),

  OK = 20, SERVICE_NOT_FOUND = 60, SERVER_ERROR = 80,

  // What stands first in each call: Dubbo's version, interface, version, method.
  callOf = (body) => (
    (([_dubbo, service, version, method]) => ({ service, version, method }))(Hessian.decode(body))
  ),
  targetOf = ({ service, version }) => services[service]?.[version] ?? services[service]?.['*'],
  failure = ({ requestID, serializationType }, status, text) => new Message(
    { requestID, isRequest: false, isTwoWay: false, isEvent: false, serializationType, status }, Hessian.encode([text])
  ),
) => pipy({
  _head: null,
  _call: null,
  _way: '',
  _target: null,
})

.listen(os.env.PORT ?? 20880)
  .decodeDubbo()
  .demux({ outputCount: ({ head }) => head.isRequest && head.isTwoWay ? 1 : 0 }).to($ => $
    .handleMessage(({ head, body }) => (
      _head = head,
      _way = head.isEvent ? 'event' : 'call',
      _way === 'call' && (
        _call = callOf(body),
        _target = targetOf(_call),
        _way = refused.includes(`${_call.service}.${_call.method}`) ? 'refused' : _target ? 'call' : 'unknown',
        calls.withLabels(_call.service, _call.method, _way).increase()
      )
    ))
    .branch(
      () => _way === 'event', $ => $
        .replaceMessage(() => new Message({ ..._head, isRequest: false, isTwoWay: false, status: OK }, new Data('N'))),

      () => _way === 'refused', $ => $
        .replaceMessage(() => failure(_head, SERVER_ERROR, `${_call.method} is not allowed here`)),

      () => _way === 'unknown', $ => $
        .replaceMessage(() => failure(_head, SERVICE_NOT_FOUND, `no server for ${_call.service} ${_call.version}`)),

      () => _way === 'call', $ => $
        // Servers may answer out of order: a connection has one call at a time.
        .mux(() => _target, { maxIdle: 30, outputCount: ({ head }) => (head.isTwoWay ? 1 : 0) }).to($ => $
          .encodeDubbo()
          .connect(() => _target, { connectTimeout: 2 })
          .decodeDubbo()
        )
        .replaceStreamEnd(end => (_head.isTwoWay ? failure(_head, SERVER_ERROR, `${_target}: ${end.error}`) : end))
    )
  )
  .encodeDubbo()

)()
