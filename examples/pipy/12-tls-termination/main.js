// Ends TLS for several names, each with its certificate, and passes what is inside to a server without it.
// In: TLS with HTTP/1 or HTTP/2, as client and proxy agree. Out: HTTP/1.
const read = name => os.read(os.path.join(os.env.CERTIFICATES ?? 'certificates', name));

const certificates = Object.fromEntries((os.env.NAMES ?? 'shop.test blog.test').split(' ').map(name => [name, {
  cert: new crypto.CertificateChain(read(`${name}.crt`)),
  key: new crypto.PrivateKey(read(`${name}.key`)),
}]));
const other = Object.values(certificates)[0];

pipy.listen(os.env.PORT ?? 8443, $ => $
  .acceptTLS({
    certificate: name => certificates[name] ?? other,
    alpn: ['h2', 'http/1.1'],
  }).to($ => $
    .demuxHTTP().to($ => $
      .handleMessageStart(({ head }) => {
        head.headers['x-forwarded-proto'] = 'https';
        head.headers['x-forwarded-for'] = __inbound.remoteAddress;
      })
      .muxHTTP().to($ => $.connect(os.env.SERVER ?? '127.0.0.1:8081'))
      .handleMessageStart(({ head }) => void (head.headers['strict-transport-security'] = 'max-age=31536000'))
    )
  )
);

// Who comes without TLS is sent to where it is.
pipy.listen(os.env.PLAIN_PORT ?? 8080, $ => $
  .serveHTTP(({ head }) => new Message({
    status: 301,
    headers: { location: `https://${head.headers.host?.split(':')[0]}:${os.env.PORT?.split(':').at(-1) ?? 8443}${head.path}` },
  }))
);
