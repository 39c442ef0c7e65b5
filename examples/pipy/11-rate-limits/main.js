// Rate limits, both kinds: who asks too often is told so (429), and what is too much for the server waits (a queue).
//
// A client may make PER_CLIENT requests a second; the server gets at most FOR_ALL a second, whoever asks.
((
  perClient = Number(os.env.PER_CLIENT ?? 5),
  forAll = new algo.Quota(Number(os.env.FOR_ALL ?? 50), { per: 1 }),
  // Who has not asked for a minute begins anew.
  quotas = new algo.Cache(() => new algo.Quota(perClient, { per: 1 }), null, { ttl: 60, size: 10000 }),
  refused = new stats.Counter('requests_refused', ['client']),
) => pipy({
  _client: '',
  _allowed: false,
})

.listen(os.env.PORT ?? 8080)
.demuxHTTP().to($ => $
  .handleMessageStart(({ head }) => (
    _client = head.headers['x-api-key'] ?? __inbound.remoteAddress,
    _allowed = quotas.get(_client).consume(1) === 1
  ))
  .branch(
    () => _allowed, $ => $
      .throttleMessageRate(forAll)
      .muxHTTP().to($ => $.connect(os.env.SERVER ?? '127.0.0.1:8081')),
    $ => $
      .handleMessageStart(() => refused.withLabels(_client).increase())
      .replaceMessage(new Message({ status: 429, headers: { 'retry-after': '1' } }, 'Too many requests\n'))
  )
)

)()
