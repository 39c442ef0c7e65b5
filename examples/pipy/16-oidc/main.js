// Login by OpenID Connect before an application that knows nothing of it.
//
//   browser ──► /page ──302──► issuer's login ──302──► /oauth2/callback?code ──► issuer's token endpoint
//                                                              └─302──► /page, with a session, x-user for the application
//
// Who is logged in is in a cookie that is signed and not kept here: any worker, and any other proxy with the same secret, knows it.
// The authorization code comes with PKCE (RFC 7636); state, nonce, issuer, audience, time and signature are verified.
const settings = {
  issuer: os.env.ISSUER ?? 'http://127.0.0.1:9000',
  client: os.env.CLIENT_ID ?? 'proxy',
  secret: os.env.CLIENT_SECRET ?? 'client-secret',
  cookieSecret: os.env.COOKIE_SECRET ?? algo.uuid(),
  callback: '/oauth2/callback',
  sessionSeconds: Number(os.env.SESSION_SECONDS ?? 3600),
  loginSeconds: 300,
  clockSkewSeconds: 30,
};
const application = os.env.APPLICATION ?? '127.0.0.1:8081';

const seconds = () => Math.floor(Date.now() / 1000);
const issuer = new http.Agent(settings.issuer);
let discovered;
let keys = [];

async function json(method, url, headers, body) {
  const { head, body: text } = await issuer.request(method, new URL(url).path, headers, body);
  if (head.status !== 200) throw new Error(`${url} answered ${head.status}: ${text?.toString()}`);
  return JSON.decode(text);
}

async function discover() {
  discovered ??= await json('GET', `${settings.issuer}/.well-known/openid-configuration`);
  if (discovered.issuer !== settings.issuer) throw new Error(`the issuer says that it is ${discovered.issuer}`);
  return discovered;
}

async function keyOf(id) {
  const find = () => keys.find(key => key.kid === id);
  // A key that is not known may be new.
  if (!find()) keys = (await json('GET', (await discover()).jwks_uri)).keys;
  if (!find()) throw new Error(`the issuer has no key ${id}`);
  return new crypto.JWK(find());
}

// Cookies with a purpose and an end, signed.
const seal = (purpose, content, lifetime) =>
  crypto.JWT.sign({ ...content, purpose, exp: seconds() + lifetime }, settings.cookieSecret);

function open(purpose, sealed) {
  const token = new crypto.JWT(sealed ?? '');
  const fine = token.verify(settings.cookieSecret) && token.payload.purpose === purpose && token.payload.exp > seconds();
  return fine ? token.payload : null;
}

function cookies(head) {
  const pairs = (head.headers.cookie ?? '').split(';').map(pair => pair.trim().split('='));
  return Object.fromEntries(pairs.map(([name, ...rest]) => [name, rest.join('=')]));
}

// Other sites cannot have the browser send these; over TLS, add Secure.
const cookie = (name, value, lifetime) => `${name}=${value}; Path=/; Max-Age=${lifetime}; HttpOnly; SameSite=Lax`;
const origin = head => `${head.headers['x-forwarded-proto'] ?? 'http'}://${head.headers.host}`;
const query = params => Object.entries(params).map(([name, value]) => `${name}=${URL.encodeComponent(value)}`).join('&');

async function login({ head }) {
  // A script of a page that asks has no use for a login page.
  if (head.method !== 'GET') return new Message({ status: 401 }, 'Log in first\n');
  const { authorization_endpoint } = await discover();
  const attempt = { state: algo.uuid(), nonce: algo.uuid(), verifier: algo.uuid() + algo.uuid(), path: head.path };
  const hash = new crypto.Hash('sha256');
  hash.update(attempt.verifier);
  const location = `${authorization_endpoint}?${query({
    response_type: 'code',
    client_id: settings.client,
    redirect_uri: origin(head) + settings.callback,
    scope: 'openid profile email',
    state: attempt.state,
    nonce: attempt.nonce,
    code_challenge: hash.digest('base64url'),
    code_challenge_method: 'S256',
  })}`;
  const sealed = seal('login', attempt, settings.loginSeconds);
  return new Message({ status: 302, headers: { location, 'set-cookie': cookie('login', sealed, settings.loginSeconds), 'cache-control': 'no-store' } });
}

function verified(token, { nonce }) {
  const { iss, aud, exp, iat, nonce: told, sub } = token.payload;
  const wrong =
    iss !== settings.issuer ? `the issuer is ${iss}` :
    ![aud].flat().includes(settings.client) ? `it is for ${aud}` :
    !(exp > seconds() - settings.clockSkewSeconds) ? 'it has expired' :
    iat > seconds() + settings.clockSkewSeconds ? 'it is from the future' :
    told !== nonce ? 'it belongs to another login' :
    !sub ? 'it names nobody' : null;
  if (wrong) throw new Error(`the token is refused: ${wrong}`);
  return token.payload;
}

async function finish({ head }) {
  const attempt = open('login', cookies(head).login);
  const params = new URLSearchParams(head.path.split('?')[1] ?? '');
  if (!attempt || params.get('state') !== attempt.state) return new Message({ status: 400 }, 'This login was not begun here, or took too long\n');
  if (params.get('error')) return new Message({ status: 403 }, `The issuer has refused: ${params.get('error')}\n`);
  try {
    const { token_endpoint } = await discover();
    const { id_token } = await json('POST', token_endpoint, { 'content-type': 'application/x-www-form-urlencoded' }, query({
      grant_type: 'authorization_code',
      code: params.get('code') ?? '',
      redirect_uri: origin(head) + settings.callback,
      client_id: settings.client,
      client_secret: settings.secret,
      code_verifier: attempt.verifier,
    }));
    const token = new crypto.JWT(id_token);
    if (!token.isValid || !token.verify(await keyOf(token.header.kid))) throw new Error('the token is refused: its signature is wrong');
    const { sub, name, email } = verified(token, attempt);
    const session = seal('session', { sub, name, email }, settings.sessionSeconds);
    return new Message({ status: 302, headers: {
      location: attempt.path,
      'set-cookie': [cookie('session', session, settings.sessionSeconds), cookie('login', '', 0)],
      'cache-control': 'no-store',
    } });
  } catch (error) {
    const why = error?.message ?? error?.body?.toString() ?? String(error);
    console.error('login failed:', why);
    return new Message({ status: 502 }, 'The login has failed\n');
  }
}

var $user;
var $way;

pipy.listen(os.env.PORT ?? 8080, $ => $
  .demuxHTTP().to($ => $
    .handleMessageStart(({ head }) => {
      const path = head.path.split('?')[0];
      $user = open('session', cookies(head).session);
      $way = path === settings.callback ? 'finish' : path === '/oauth2/logout' ? 'logout' : $user ? 'forward' : 'login';
    })
    .pipe(() => $way, {
      login: $ => $.replaceMessage(request => login(request).catch(error => {
        console.error('the issuer cannot be asked:', error?.message ?? error?.body?.toString() ?? error);
        return new Message({ status: 502 }, 'The login is not possible now\n');
      })),
      finish: $ => $.replaceMessage(finish),
      logout: $ => $.replaceMessage(() => new Message({ status: 302, headers: { location: '/', 'set-cookie': cookie('session', '', 0) } })),
      forward: $ => $
        .handleMessageStart(({ head }) => {
          // What a client says of itself is not believed, and the session is not the application's.
          head.headers['x-user'] = $user.sub;
          head.headers['x-user-name'] = $user.name ?? '';
          head.headers['x-user-email'] = $user.email ?? '';
          const { session, login, ...others } = cookies(head);
          const left = Object.entries(others).filter(([name]) => name).map(pair => pair.join('=')).join('; ');
          if (left) head.headers.cookie = left;
          else delete head.headers.cookie;
        })
        .muxHTTP().to($ => $.connect(application)),
    })
  )
);
