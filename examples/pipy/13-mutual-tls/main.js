// Mutual TLS on both sides: clients must show a certificate of our authority, and so does this proxy to the server behind.
//
// Who the client is, by its certificate, is told to the server in `x-client`; what a client says of itself there is not believed.
const read = name => os.read(os.path.join(os.env.CERTIFICATES ?? 'certificates', name));
const authority = new crypto.Certificate(read('ca.crt'));
const own = {
  cert: new crypto.CertificateChain(read('proxy.test.crt')),
  key: new crypto.PrivateKey(read('proxy.test.key')),
};

var $client = '';

pipy.listen(os.env.PORT ?? 8443, $ => $
  .acceptTLS({
    certificate: own,
    trusted: [authority],
    onState: session => {
      if (session.state === 'connected') $client = session.peer?.subject?.CN ?? '';
      if (session.error) console.log('refused', session.error);
    },
  }).to($ => $
    .demuxHTTP().to($ => $
      .handleMessageStart(({ head }) => void (head.headers['x-client'] = $client))
      .muxHTTP().to($ => $
        .connectTLS({ certificate: own, trusted: [authority], sni: os.env.SERVER_NAME ?? 'server.test' }).to($ => $
          .connect(os.env.SERVER ?? '127.0.0.1:8444')
        )
      )
    )
  )
);
