// The server's side: which service is asked, then the chain of its plugins.
((
  config = JSON.decode(pipy.load('config.json')),
) => (

pipy()
.export('inbound-http-routing', { __service: null })

.pipeline()
  .onStart(() => void (__service = { Plugins: config.inbound }))
  .chain(['plugins/token-verifier.js', 'answer.js'])

))()
