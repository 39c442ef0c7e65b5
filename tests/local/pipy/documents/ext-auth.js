  pipy({
    _acceptTokens: ['2f1acc6c3a606b082e5eef5e54414ffb'],
    _allow: false,
  })

    // Pipeline layouts go here, e.g.:
    .listen(8079)
    .demuxHTTP().to($ => $
      .handleMessageStart(
        msg => ((token = msg?.head?.headers?.['x-iam-token']) =>
          _allow = token && _acceptTokens?.find(el => el == token)
        )()
      )
      .branch(() => _allow, $ => $.replaceMessage(new Message({ status: 200 })),
        $ => $.replaceMessage(new Message({ status: 401 }))
      )
    )
