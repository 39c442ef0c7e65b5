// A line for each request, as JSON, when its answer has begun.
const logger = new logging.JSONLogger('access').toStdout();

var $exchange;
var $request;

export default pipeline($ => $
  .onStart(exchange => void ($exchange = exchange))
  .handleMessageStart(({ head }) => void ($request = { method: head.method, path: head.path }))
  .pipeNext(() => [$exchange])
  .handleMessageStart(({ head }) => logger.log({
    time: new Date().toISOString(),
    client: $exchange.client,
    host: $exchange.host,
    ...$request,
    service: $exchange.route?.service,
    target: $exchange.target,
    status: head.status,
    took_ms: Date.now() - $exchange.began,
  }))
);
