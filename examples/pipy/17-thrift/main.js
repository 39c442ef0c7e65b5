// Before a Thrift service: counts calls by method, and refuses those that no client should make.
//
// Every protocol that the decoder knows is answered in the same one. A oneway call has no answer: none is waited for.
((
  refused = (os.env.REFUSED ?? 'erase').split(','),
  calls = new stats.Counter('thrift_calls', ['method', 'result']),

  // TApplicationException: a message and a type; 6 is an internal error.
  exception = (head, { protocol, seqID, name }, text) => new Message(head, null, null, {
    protocol, seqID, name, type: 'exception',
    fields: [{ id: 1, type: 'BINARY', value: new Data(text) }, { id: 2, type: 'I32', value: 6 }],
  }),
) => pipy({
  _call: null,
  _head: null,
})

.listen(os.env.PORT ?? 9090)
  .decodeThrift()
  // Whether a call has an answer must be known when it begins.
  .replaceMessage(({ head, payload }) => new Message({ ...head, oneway: payload.type === 'oneway' }, null, null, payload))
  .demux({ outputCount: ({ head }) => (head.oneway ? 0 : 1) }).to($ => $
    .handleMessage(({ head, payload }) => (
      _head = head,
      _call = payload,
      calls.withLabels(payload.name, refused.includes(payload.name) ? 'refused' : 'passed').increase()
    ))
    .branch(
      () => refused.includes(_call.name), $ => $
        .replaceMessage(() => exception(_head, _call, `${_call.name} is not allowed here`)),

      $ => $
        .mux(() => __inbound, { outputCount: ({ head }) => (head.oneway ? 0 : 1) }).to($ => $
          .encodeThrift()
          .connect(os.env.SERVICE ?? '127.0.0.1:9091', { connectTimeout: 2 })
          .decodeThrift()
        )
        .replaceStreamEnd(end => (_head.oneway ? end : exception(_head, _call, `the service cannot be reached: ${end.error}`)))
    )
  )
  .encodeThrift()

)()
