pipy({
  _isTunnel: false,
  _target: null,
})

  //http tunnel
  .listen(80)
  .demuxHTTP().to($ => $
    .handleMessageStart(
      msg => msg.head.method === 'CONNECT' && (_isTunnel = true)
    )
    .branch(
      () => _isTunnel, (
      $ => $.acceptHTTPTunnel(
        msg => (
          _target = msg.head.path,
          new Message({ status: 200 })
        )
      ).to(
        $ => $.connect(() => _target)
      )
    ), (
      //common HTTP request
      $ => $.replaceMessage(new Message({ status: 404 }, 'Not Found!\n'))
    )
    )
  )
