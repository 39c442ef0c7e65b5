// What the gateway answers itself: fixed answers of the configuration, and requests that no route is for.
var $exchange;

export default pipeline($ => $
  .onStart(exchange => void ($exchange = exchange))
  .pipe(() => ($exchange.route && !$exchange.route.answer ? 'next' : 'here'), {
    next: $ => $.pipeNext(() => [$exchange]),
    here: $ => $.replaceMessage(() => (
      $exchange.route
        ? new Message({ status: $exchange.route.answer.status }, $exchange.route.answer.body)
        : new Message({ status: 404 }, `No route for ${$exchange.host}\n`)
    )),
  })
);
