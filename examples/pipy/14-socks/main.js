// A SOCKS proxy (4, 4a, 5) that opens connections to where ALLOWED says, and to nowhere else.
((
  allowed = (os.env.ALLOWED ?? 'localhost,127.0.0.1').split(','),
  within = (host) => allowed.some(rule => (
    rule.startsWith('*.') ? host.endsWith(rule.slice(1)) :
    rule.includes('/') ? /^[0-9.]+$/.test(host) && new Netmask(rule).contains(host) :
    rule === host
  )),
  opened = new stats.Counter('socks_requests', ['answer']),
) => pipy({
  _target: '',
})

.listen(os.env.PORT ?? 1080)
.acceptSOCKS(({ ip, domain, port }) => (
  ((host = domain ?? ip, may = within(host)) => (
    _target = `${host}:${port}`,
    opened.withLabels(may ? 'opened' : 'refused').increase(),
    console.log(may ? 'opened' : 'refused', _target, 'for', __inbound.remoteAddress),
    may
  ))()
)).to($ => $
  .connect(() => _target, { connectTimeout: 10 })
)

)()
