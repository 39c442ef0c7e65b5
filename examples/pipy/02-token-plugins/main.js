// Two plugins of a mesh, outside of any mesh: a client's side that adds a token, and a server's side that has it verified.
// In: requests to CLIENT_PORT (as an application sends them) or to SERVER_PORT (without the plugin). Out: what answer.js says.
//
// INVARIANT: the plugins are the files that a mesh takes, unchanged; what a mesh gives them, is given here.
((
  config = JSON.decode(pipy.load('config.json')),
) => (

pipy()
.export('outbound-http-routing', { __service: null })

.listen(`127.0.0.1:${os.env.CLIENT_PORT ?? 8000}`)
  .demuxHTTP().to($ => $
    .onStart(() => void (__service = { Plugins: config.outbound }))
    .chain(['plugins/token-injector.js', 'forward.js'])
  )

.listen(`127.0.0.1:${os.env.SERVER_PORT ?? 8001}`)
  .demuxHTTP().to($ => $.use('inbound.js'))

))()
