// A web application firewall: requests with SQL injection or cross-site scripting in them do not reach the application.
// In: HTTP. Out: the application, with what inject-nmi.so finds nothing in. Each refusal is a line in the log and a count.
((
  refused = new stats.Counter('waf_refused', ['reason']),
  application = os.env.APPLICATION ?? '127.0.0.1:8081',
) => pipy({
  _reason: undefined,
})

.import({
  __is_sqli: 'lib-inject',
  __is_xss: 'lib-inject',
  __is_oversized: 'lib-inject',
  __sqli_fingerprint: 'lib-inject',
})

.listen(os.env.PORT ?? 8080)
.demuxHTTP().to($ => $
  .use(os.env.MODULE ?? './inject-nmi.so')
  .handleMessage(({ head }) => (
    _reason = __is_oversized ? 'size' : __is_sqli ? 'sqli' : __is_xss ? 'xss' : null,
    _reason && (
      refused.withLabels(_reason).increase(),
      console.log('refused', _reason, __sqli_fingerprint, head.method, head.path, 'of', __inbound.remoteAddress)
    )
  ))
  .branch(
    () => _reason, $ => $
      .replaceMessage(() => new Message({ status: _reason === 'size' ? 413 : 403 }, _reason === 'size' ? 'Too large\n' : 'Forbidden\n')),

    () => _reason === null, $ => $
      .muxHTTP().to($ => $.connect(application))
  )
)

)()
