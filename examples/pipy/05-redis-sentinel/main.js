// One address for a replicated Redis: commands that write go to the master, the others to each node in turn.
// In: clients of Redis. Out: connections to the nodes that the sentinels name, shared between clients.
//
// Who is master is what the sentinel with the newest configuration says, never what a node says of itself: one that comes back
// may believe for seconds that it still is. While there is no master, what needs one waits. INVARIANT: a command that may have
// been carried out is not sent again unless it only reads.
((
  { sentinels, master, readYourWritesSeconds, patienceSeconds } = JSON.decode(pipy.load('config.json')),
  commands = JSON.decode(pipy.load('commands.json')),

  reads = new Set(commands.reads),
  keepsState = new Set(commands.keepsState),
  refused = new Set(commands.refused),

  pins = (name) => !reads.has(name) && !refused.has(name) && (keepsState.has(name) || keepsState.has(name.split(' ')[0])),

  // What the sentinels know: the newest configuration so far, its master, the nodes that can be read from.
  known = { epoch: -1, master: null, nodes: [], unreached: new Set },

  turns = { next: 0 },
  inTurn = (nodes) => nodes[turns.next++ % nodes.length],

  addressOf = ({ ip, port }) => `${ip}:${port}`,
  fieldsOf = (pairs) => repeat(1, () => {
    const fields = {};
    for (let i = 0; i + 1 < pairs.length; i += 2) fields[pairs[i].toString()] = pairs[i + 1].toString();
    return fields;
  }),
  isDown = ({ flags }) => flags.split(',').some(flag => ['s_down', 'o_down', 'disconnected'].includes(flag)),

  // Down is what most sentinels cannot reach: one that has just learnt of a new master has not spoken with it yet.
  masterIs = (sentinel, fields) => repeat(1, () => {
    const epoch = Number(fields['config-epoch']);
    if (epoch < known.epoch) return;
    if (epoch > known.epoch) known.unreached.clear();
    isDown(fields) ? known.unreached.add(sentinel) : known.unreached.delete(sentinel);
    const now = known.unreached.size * 2 > sentinels.length ? null : addressOf(fields);
    if (known.master !== now) console.log('master is', now ?? 'down', 'in configuration', epoch);
    Object.assign(known, { epoch, master: now });
  }),
  replicasAre = (replicas) => (
    known.nodes = replicas
      .filter(fields => !isDown(fields) && fields['master-link-status'] === 'ok')
      .map(addressOf)
      .filter(address => address !== known.master)
  ),

  // `CLIENT` is many commands in one, and so is `HELLO`: it asks for a version of the protocol, and may log in besides.
  nameOf = ([name, first, second]) => (
    (text => (
      text === 'CLIENT' ? `${text} ${String(first).toUpperCase()}` :
      text === 'HELLO' && first && !second ? 'HELLO VERSION' : text
    ))(String(name).toUpperCase())
  ),
  command = (...words) => new Message({}, null, null, words.map(word => new Data(word))),

  // A connection to a node, which speaks the version of the protocol that its clients have asked for.
  node = (address, options) => $ => $
    .onStart(() => (_greets = _client.protocol === 3) ? command('HELLO', '3') : undefined)
    .encodeRESP()
    .connect(address, options)
    .decodeRESP()
    .replaceMessage(msg => _greets ? (_greets = false, undefined) : msg),

  answer = (text) => new Message({}, null, null, new Error(text)),

  commandCounter = new stats.Counter('redis_commands', ['node']),
  waitCounter = new stats.Counter('redis_waits'),
) => (

pipy({
  _client: null,
  _name: '',
  _pinned: false,
  _node: null,
  _since: 0,
  _tried: null,
  _greets: false,
  _sentinel: null,
  _awaited: null,
})

// What the sentinels say, four times a second.
.task('250ms')
  .onStart(() => (_awaited = { answers: sentinels.length * 2 }, new Message({}, null, null, [])))
  .fork(sentinels).to($ => $
    .onStart(address => void (_sentinel = address))
    .replaceMessage(() => [
      command('SENTINEL', 'MASTER', master),
      command('SENTINEL', 'REPLICAS', master),
    ])
    .muxQueue(() => _sentinel).to($ => $
      .encodeRESP()
      .connect(() => _sentinel, { connectTimeout: 1, idleTimeout: 2 })
      .decodeRESP()
    )
    .handleMessage(({ payload }) => void (
      _awaited.answers--,
      payload instanceof Error ? console.log('sentinel', _sentinel, payload.message) :
      payload.every(item => Array.isArray(item)) ? replicasAre(payload.map(fieldsOf)) : masterIs(_sentinel, fieldsOf(payload))
    ))
  )
  .wait(() => _awaited.answers <= 0, { timeout: 1 })
  .replaceMessage(() => new StreamEnd)

.listen(os.env.PORT ?? '6379')
  .onStart(() => void (_client = { protocol: 2, pinned: null, wrote: 0 }))
  .decodeRESP()
  // A client's commands one after the other, for those to different nodes would overtake each other.
  .demux({ outputCount: -1 }).to($ => $
    .handleMessage(({ payload }) => void (
      _name = nameOf(payload),
      _since = Date.now(),
      _tried = new Set(),
      _name === 'HELLO VERSION' && !_client.pinned && (_client.protocol = Number(payload[1])),
      pins(_name) && (_client.pinned ??= known.master),
      _pinned = _client.pinned !== null
    ))
    .branch(
      () => _name === 'QUIT', $ => $
        .replaceMessage(() => [new Message({}, null, null, 'OK'), new StreamEnd]),

      () => refused.has(_name), $ => $
        .replaceMessage(() => answer(`ERR ${_name} is not possible here: the proxy shares its connections to the nodes`)),

      // What a connection has begun stays on the node where that is, and on a connection that it has for itself.
      () => _pinned, $ => $
        .branch(
          () => _client.pinned === known.master, $ => $
            .handleMessageStart(() => void commandCounter.withLabels(_client.pinned).increase())
            .muxQueue(() => _client).to(node(() => _client.pinned, { connectTimeout: 1, idleTimeout: 0 })),
          // Another node is the master by now: a transaction cannot go on there.
          $ => $.replaceMessage(() => new StreamEnd('ConnectionReset'))
        ),

      $ => $
        .replay({ delay: '50ms' }).to($ => $
          .handleMessageStart(() => void (
            _node =
              !reads.has(_name) || Date.now() - _client.wrote < readYourWritesSeconds * 1000
                ? known.master
                : inTurn([known.master, ...known.nodes].filter(node => node && !_tried.has(node))) ?? known.master,
            _node === null && waitCounter.increase()
          ))
          .branch(
            () => _node, $ => $
              .handleMessageStart(() => void (
                _tried.add(_node),
                reads.has(_name) || (_client.wrote = Date.now()),
                commandCounter.withLabels(_node).increase()
              ))
              .muxQueue(() => `${_node} ${_client.protocol}`).to(node(() => _node, { connectTimeout: 1, idleTimeout: 3 })),
            $ => $.replaceMessage(() => new StreamEnd('CannotResolve'))
          )
          // A node that was the master a moment ago says so, and has done nothing.
          .replaceMessage(msg => (
            msg.payload instanceof Error && /^(READONLY|LOADING|MASTERDOWN) /.test(msg.payload.message)
              ? new StreamEnd('ConnectionRefused')
              : msg
          ))
          .replaceStreamEnd(end => (
            Date.now() - _since > patienceSeconds * 1000 ? answer('ERR no node could take the command in time') :
            ['ConnectionRefused', 'ConnectionTimeout', 'CannotResolve'].includes(end.error) || reads.has(_name)
              ? new StreamEnd('Replay')
              : answer(`ERR the connection to the master was lost, ${_name} may have been carried out or not`)
          ))
        )
    )
  )
  .encodeRESP()

))()
