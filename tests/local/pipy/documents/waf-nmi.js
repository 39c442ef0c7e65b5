pipy({
  _rejected: undefined,
})
  .import({
    __is_sqli: 'lib-inject',
    __is_xss: 'lib-inject',
    __sqli_fingerprint: 'lib-inject',
  })
  .listen(8000)
  .demuxHTTP().to(
    $=>$
        .use('/etc/pipy/modules/inject-nmi.so')
        .handleMessage(() => _rejected = (__is_sqli || __is_xss))
        .branch(
            () => _rejected === true, (
            $=>$
            .handleMessageStart(_ =>
              console.log(`SQL Injection found with Fingerprint: ${__sqli_fingerprint}`))
            .replaceMessage(new Message({ status: 403 }, 'Forbidden'))
            ),
            () => _rejected === false, (
              $=>$.muxHTTP().to(
                  $=>$.connect('localhost:80')
              )
            )
        )
  )
