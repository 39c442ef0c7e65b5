// Paths and headers as the route wants them.
var $exchange;

export default pipeline($ => $
  .onStart(exchange => void ($exchange = exchange))
  .handleMessageStart(({ head }) => {
    const { strip, headers } = $exchange.route;
    if (strip && head.path.startsWith(strip)) {
      const rest = head.path.slice(strip.length);
      head.path = rest.startsWith('/') ? rest : `/${rest}`;
    }
    for (const [name, value] of Object.entries(headers ?? {})) head.headers[name] = value.replace('{host}', $exchange.host);
    head.headers['x-forwarded-for'] = $exchange.client;
  })
  .pipeNext(() => [$exchange])
);
