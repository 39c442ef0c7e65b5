// Gives what is missing of the names that scripts of Pipy may use: globals, and members of objects, each with how one is made.
const globals = `
  undefined NaN Infinity Object Promise Boolean Int Number String Error Array Math Date Map Set RegExp
  invoke repeat branch select CString CStruct CUnion JSON YAML XML zlib protobuf IP IPMask IPEndpoint Netmask
  BGP DNS STUN Hessian RESP console os URL URLSearchParams Data Message MessageStart MessageEnd StreamEnd
  ListenerArray Swap Timeout logging stats http crypto algo bpf sqlite print println __thread
`;
const key = new crypto.PrivateKey({ type: 'ec' });
const labelled = 'withLabels name type dimensions label value submetrics clear zero';
const balancer = 'set add select';
const codec = 'decode encode';
const text = 'parse stringify decode encode';
const members = [
  ['pipy', pipy, `load solve import list watch patch mount unmount listen read exec exit restart fork argv pid since
    source name uuid now thread version performance tty inbound outbound`],
  ['pipy.version', pipy.version, 'tag commit date'],
  ['pipy.performance', pipy.performance, 'timeOrigin now'],
  ['pipy.inbound', pipy.inbound, 'count forEach'],
  ['pipy.outbound', pipy.outbound, 'count forEach'],
  ['pipy.tty', pipy.tty, 'raw'],
  ['pipeline', pipeline, 'Hub'],
  ['a template', pipeline($ => $), 'spawn process'],
  ['Timeout', new Timeout(1), 'wait cancel restart'],
  ['ListenerArray', new ListenerArray(), 'set add remove'],
  ['Message', new Message({}, 'x'), 'head body tail payload'],
  ['MessageStart', new MessageStart(), 'head'],
  ['MessageEnd', new MessageEnd(), 'tail payload'],
  ['StreamEnd', new StreamEnd(), 'error'],
  ['Data', Data, 'from'],
  ['Data', new Data('a'), 'size push pop shift shiftTo shiftWhile toArray toString'],
  ['algo', algo, 'hash uuid'],
  ['Cache', new algo.Cache(), 'get set has find remove clear'],
  ['Quota', new algo.Quota(1), 'initial current reset produce consume'],
  ['SharedMap', new algo.SharedMap('members'), 'size clear delete has get set add sub'],
  ['URLRouter', new algo.URLRouter({}), 'add find'],
  ['RoundRobinLoadBalancer', new algo.RoundRobinLoadBalancer(['a']), `${balancer} next borrow deselect`],
  ['LeastWorkLoadBalancer', new algo.LeastWorkLoadBalancer(['a']), `${balancer} next borrow deselect`],
  ['HashingLoadBalancer', new algo.HashingLoadBalancer(['a']), `${balancer} next`],
  ['LoadBalancer', new algo.LoadBalancer(['a'], {}), 'provision schedule allocate'],
  ['ResourcePool', new algo.ResourcePool(() => 1), 'allocate free'],
  ['Percentile', new algo.Percentile([1]), 'reset observe calculate'],
  ['stats', stats, 'sum'],
  ['Counter', new stats.Counter('members_a', ['x']), `${labelled} increase`],
  ['Gauge', new stats.Gauge('members_b', ['x']), `${labelled} set increase decrease`],
  ['Histogram', new stats.Histogram('members_c', [1], ['x']), `${labelled} observe percentile`],
  ...['JSONLogger', 'TextLogger', 'BinaryLogger'].map(
    kind => [kind, new logging[kind]('x'), 'log toStdout toStderr toFile toSyslog toHTTP']),
  ['console', console, 'log info debug warn error'],
  ['http', http, 'Match Agent Directory File'],
  ['http.Directory', http.Directory, 'defaultContentTypes'],
  ['http.Directory', new http.Directory('/etc', { fs: true }), 'serve'],
  ['http.File', http.File, 'from'],
  ['http.File', http.File.from('main.js'), 'toMessage'],
  ['http.Agent', new http.Agent('a:1'), 'request'],
  ['URL', URL, 'encode decode encodeComponent decodeComponent'],
  ['URL', new URL('http://u:p@a.b:8/c?d=1#e'), `auth hash host hostname href origin password path pathname port
    protocol query search searchParams username`],
  ['URLSearchParams', new URLSearchParams('a=1'), 'getAll get set toObject'],
  ['os', os, `env path platform home chdir abspath stat list readDir read readFile write writeFile rename unlink rm
    mkdir rmdir kill`],
  ['os.path', os.path, 'basename dirname join resolve normalize'],
  ['Stats', os.stat('/etc'), `dev ino mode nlink uid gid rdev size blksize blocks atime mtime ctime isFile isDirectory
    isSymbolicLink isFIFO isSocket isBlockDevice isCharacterDevice`],
  ['crypto', crypto, 'PublicKey PrivateKey Certificate CertificateChain Cipher Decipher Hash Hmac Sign Verify JWK JWT'],
  ['PrivateKey', key, 'toPEM'],
  ['PublicKey', new crypto.PublicKey(key), 'toPEM'],
  ['Certificate', new crypto.Certificate({ subject: { CN: 'a' }, privateKey: key }),
    'issuer subject subjectAltNames notBefore notAfter toPEM'],
  ['Hash', new crypto.Hash('sha256'), 'update digest'],
  ['Hmac', new crypto.Hmac('sha256', 'k'), 'update digest'],
  ['Sign', new crypto.Sign('sha256'), 'update sign'],
  ['Verify', new crypto.Verify('sha256'), 'update verify'],
  ['JWT', new crypto.JWT('a.b.c'), 'isValid header payload verify'],
  ['JWK', new crypto.JWK({}), 'isValid'],
  ['JSON', JSON, text], ['YAML', YAML, text], ['XML', XML, `${text} Node`],
  ['DNS', DNS, `${codec} resolve`], ['Hessian', Hessian, `${codec} Collection`], ['protobuf', protobuf, `${codec} Message`],
  ['RESP', RESP, codec], ['STUN', STUN, codec], ['BGP', BGP, codec],
  ['zlib', zlib, 'deflate inflate gzip gunzip'],
  ['Netmask', new Netmask('10.0.0.0/8'), `version ip bitmask base mask hostmask broadcast size first last decompose
    toBytes contains next`],
  ['IP', IP, 'isV4 isV6'], ['IP', new IP('1.2.3.4'), 'version toBytes toString'],
  ['IPEndpoint', new IPEndpoint('1.2.3.4', 5), 'ip port protocol'],
  ['CStruct', new CStruct({ a: 'int8' }), 'encode decode size reflect'],
  ['CUnion', new CUnion({ a: 'int8' }), 'encode decode size reflect'],
  ['Database', sqlite(':memory:'), 'sql exec close'],
  ['Statement', sqlite(':memory:').sql('select 1'), 'reset bind step exec column row'],
  ['bpf', bpf, 'object pin attach detach cgroup Map Program'],
];
const names = list => list.split(/\s+/).filter(Boolean);
const missing = [
  ...names(globals).filter(name => !(name in globalThis)),
  ...members.flatMap(([owner, object, list]) =>
    names(list).filter(name => !(name in Object(object ?? {}))).map(name => `${owner}.${name}`)),
];
missing.join('\n')
