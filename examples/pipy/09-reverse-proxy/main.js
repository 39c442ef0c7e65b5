// A reverse proxy: tells the server who asks, and takes away from the answer what nobody has to know.
// In: HTTP/1 and HTTP/2. Out: HTTP/1 to SERVER; bodies pass as they come.
pipy({
  _began: 0,
})

.listen(os.env.PORT ?? 8080)
.demuxHTTP().to($ => $
  .handleMessageStart(({ head }) => (
    _began = Date.now(),
    // What a client says of itself is not believed.
    head.headers['x-forwarded-for'] = __inbound.remoteAddress,
    head.headers['x-forwarded-proto'] = 'http',
    head.headers['x-forwarded-host'] = head.headers.host
  ))
  .muxHTTP(() => __inbound).to($ => $
    .connect(os.env.SERVER ?? '127.0.0.1:8081', { connectTimeout: 5 })
  )
  .handleMessageStart(({ head }) => (
    delete head.headers.server,
    head.headers['x-took-ms'] = Date.now() - _began
  ))
)
