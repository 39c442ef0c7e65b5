// To one of the service's targets, by turns.
var $exchange;
var $resource;

export default pipeline($ => $
  .onStart(exchange => {
    $exchange = exchange;
    $resource = exchange.balancer.allocate();
    exchange.target = $resource?.target;
  })
  .onEnd(() => $resource?.free())
  .muxHTTP(() => $exchange.target).to($ => $
    .connect(() => $exchange.target, { connectTimeout: 5 })
  )
);
