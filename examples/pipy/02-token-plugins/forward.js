// The end of the client's chain: to the server's side.
pipy()
.pipeline()
  .muxHTTP().to($ => $.connect(() => `127.0.0.1:${os.env.SERVER_PORT ?? 8001}`))
