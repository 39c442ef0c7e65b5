// A gateway: routes by host and path to services, as config.json says. Each concern is a stage; a request passes them in order.
import log from './stages/log.js';
import answer from './stages/answer.js';
import rewrite from './stages/rewrite.js';
import forward from './stages/forward.js';

const config = JSON.decode(pipy.load('config.json'));
const router = new algo.URLRouter(config.routes);
const balancers = Object.fromEntries(
  Object.entries(config.services).map(([name, targets]) => [name, new algo.LoadBalancer(targets)])
);

var $exchange;

pipy.listen(os.env.PORT ?? 8080, $ => $
  .demuxHTTP().to($ => $
    .handleMessageStart(({ head }) => {
      const host = head.headers.host ?? '';
      const route = router.find(host.toLowerCase(), head.path);
      $exchange = { host: host.split(':')[0], route, balancer: balancers[route?.service], began: Date.now(), client: __inbound.remoteAddress };
    })
    .pipe([log, answer, rewrite, forward], () => [$exchange])
  )
);
