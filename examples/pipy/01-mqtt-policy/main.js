// A policy engine before an MQTT broker: who may connect, publish to which topics, subscribe to which.
// In: clients of MQTT 3.1.1 and 5. Out: the broker's connection, with what policy.json allows.
//
// What is not allowed never reaches the broker. So that the client gets its answer in the right order, a PINGREQ takes the
// place of the refused packet, and the broker's PINGRESP is exchanged for the refusal.
((
  { accounts, bytesMax } = JSON.decode(pipy.load('policy.json')),
  NOT_AUTHORIZED = 135,

  // Whether a topic, or everything that a filter asks for, lies within an allowed filter.
  within = (allowed, asked) => (
    asked[0]?.startsWith('$') && (allowed[0] === '+' || allowed[0] === '#') ? false : inside(allowed, asked)
  ),
  inside = (allowed, asked) => (
    allowed[0] === '#' ? true :
    allowed.length === 0 || asked.length === 0 ? allowed.length === asked.length :
    asked[0] === '#' ? false :
    (allowed[0] === '+' || allowed[0] === asked[0]) && inside(allowed.slice(1), asked.slice(1))
  ),
  allows = (filters, asked) => (filters ?? []).some(filter => within(filter.split('/'), asked.split('/'))),

  refusals = new stats.Counter('mqtt_refused', ['type', 'user']),
) => (

pipy({
  _account: null,
  _user: '',
  _refused: false,
  _answers: null,
  _dropped: null,
  _refuse: null,
})

.listen(os.env.PORT ?? '1883')
  .onStart(() => void (
    _answers = [],
    _dropped = new Set(),
    _refuse = (type, answer) => (
      refusals.withLabels(type, _user).increase(),
      console.log('refused', type, 'of', _user),
      _answers.push(answer),
      new Message({ type: 'PINGREQ' })
    )
  ))
  .decodeMQTT()
  .handleMessageStart(msg => (
    msg.head.type === 'CONNECT' && (
      _user = msg.head.username ?? '',
      _account = accounts[_user],
      _account?.password !== msg.head.password && (
        _account = null,
        _refused = true,
        refusals.withLabels('CONNECT', _user).increase(),
        console.log('refused CONNECT of', _user)
      )
    )
  ))
  .branch(
    () => _refused, $ => $
      .replaceMessage(() => [new Message({ type: 'CONNACK', reasonCode: NOT_AUTHORIZED }), new StreamEnd])
      .encodeMQTT(),

    $ => $
      .replaceMessage(msg => select(msg.head.type,
        'PUBLISH', () => (
          (allows(_account.publish, msg.head.topicName) && (msg.body?.size ?? 0) <= bytesMax) ? msg :
          msg.head.qos === 2 ? (
            _dropped.add(msg.head.packetIdentifier),
            _refuse('PUBLISH', { type: 'PUBREC', packetIdentifier: msg.head.packetIdentifier, reasonCode: NOT_AUTHORIZED })
          ) :
          _refuse('PUBLISH', msg.head.qos === 1
            ? { type: 'PUBACK', packetIdentifier: msg.head.packetIdentifier, reasonCode: NOT_AUTHORIZED }
            : undefined)
        ),
        'PUBREL', () => (
          // MQTT 3.1.1 has no way to refuse: the client goes on with what was dropped.
          _dropped.delete(msg.head.packetIdentifier)
            ? (_answers.push({ type: 'PUBCOMP', packetIdentifier: msg.head.packetIdentifier }), new Message({ type: 'PINGREQ' }))
            : msg
        ),
        'SUBSCRIBE', () => (
          msg.payload.topicFilters.every(({ filter }) => allows(_account.subscribe, filter)) ? msg :
          _refuse('SUBSCRIBE', {
            type: 'SUBACK',
            packetIdentifier: msg.head.packetIdentifier,
            codes: msg.payload.topicFilters.map(() => 128),
          })
        ),
        'PINGREQ', () => (_answers.push({ type: 'PINGRESP' }), msg),
        msg
      ))
      .encodeMQTT()
      .connect(() => os.env.BROKER ?? '127.0.0.1:11883')
      .decodeMQTT()
      .replaceMessage(msg => (
        msg.head.type !== 'PINGRESP' ? msg :
        (({ codes, ...head } = {}) => head.type && new Message(head, undefined, undefined, codes))(_answers.shift() ?? {})
      ))
      .encodeMQTT()
  )

))()
