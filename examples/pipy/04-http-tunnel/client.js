// The client's side of the tunnel, for programs that know nothing of HTTP: what comes to CLIENT is sent through the proxy to
// TARGET, as if the program were connected to it.
pipy()

  .listen(os.env.CLIENT ?? '127.0.0.1:8082')
  .connectHTTPTunnel(
    () => new Message({ method: 'CONNECT', path: os.env.TARGET ?? '127.0.0.1:8081' })
  ).to(
    $ => $.muxHTTP().to(
      $ => $.connect(() => os.env.PROXY ?? '127.0.0.1:80')
    )
  )
