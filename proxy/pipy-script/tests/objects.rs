//! Objects of scripts: each example of the reference page is run, and what fails says why.

use std::rc::Rc;

use pipy_script::{Inline, Limits, load};

const PAGE: &str = include_str!("../../../docs/reference/pipyjs-objects.md");

fn value(script: &str) -> Result<Option<String>, String> {
    load(Rc::new(Inline(script.to_owned())), "/main.js", Limits::default())
        .map(|loaded| loaded.value)
        .map_err(|error| error.to_string())
}

#[test]
fn every_example_of_the_page_gives_what_it_says() {
    let examples: Vec<(&str, &str)> = PAGE.lines().filter_map(|line| line.split_once(" // → ")).collect();
    assert!(examples.len() > 50, "the page has {} examples", examples.len());
    let mut wrong = Vec::new();
    for (script, expected) in examples {
        // `undefined` is no value that is printed.
        let found = value(&format!("(value => value === undefined ? 'undefined' : value)({script})"));
        if found.as_ref().is_ok_and(|found| found.as_deref() == Some(expected)) {
            continue;
        }
        wrong.push(format!("{script}\n   expected {expected}\n   got {found:?}"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_member_that_scripts_may_use_is_there() {
    assert_eq!(value(include_str!("members.js")), Ok(Some(String::new())));
}

fn fails(script: &str, why: &str) {
    match value(script) {
        Ok(value) => panic!("{script} gave {value:?}"),
        Err(error) => assert!(error.contains(why), "{script}: {error}"),
    }
}

#[test]
fn failures_say_what_was_wrong() {
    fails("JSON.decode(pipy.load('no-such-file'))", "is the file there?");
    fails("DNS.decode(new Data('abc'))", "DNS");
    fails("YAML.parse('a: [1')", "invalid YAML");
    fails("new Netmask('10.0.0.0/33')", "invalid CIDR notation: 10.0.0.0/33");
    fails("new IP('10.0.0.256')", "invalid IP address");
    fails("new URL('nonsense')", "invalid URL: nonsense");
    fails("new algo.URLRouter({ 'a:80/b': 1 })", "invalid URL pattern");
    fails("(new stats.Counter('twice'), new stats.Gauge('twice'))", "is a counter already");
    fails("new algo.Cache(null, null, { ttl: 'soon' })", "is no duration");
    fails("new crypto.Hash('md99')", "unknown hash: md99");
    fails("new crypto.Certificate(pipy.load('no-such-file'))", "is the file there?");
    fails("new crypto.PrivateKey('nonsense')", "no PrivateKey in this PEM");
    fails(
        "new crypto.Decipher('aes-128-gcm', { key: '0123456789abcdef', iv: '0123456789ab', tag: '0123456789abcdef' }).final()",
        "the tag is wrong",
    );
    fails("new crypto.Cipher('aes-128-cbc', { key: 'short', iv: '' })", "takes a key of 16 bytes");
    fails("new crypto.PrivateKey({ bits: 1024 })", "RSA key of 1024 bits is not made");
    fails("new crypto.Certificate({ subject: { CN: 'a' } })", "privateKey is missing");
    fails("new logging.JSONLogger('x').toHTTP('nowhere')", "is no URL of a server");
    fails("new logging.JSONLogger('x').toSyslog('LOUD')", "unknown priority: LOUD");
    fails("new logging.JSONLogger('x').toFile('/proc/none/x')", "cannot open /proc/none/x");
    fails("new logging.JSONLogger('x').toFile('x', { maxFileSize: 'much' })", "is no size");
    fails("pipy.exec('no-such-program')", "cannot run no-such-program");
    fails("pipy.exec('sleep 20', { timeout: 0.05 })", "was killed");
    fails("pipy.mount('x', '/no/such/folder')", "is no folder");
    fails("os.kill(0)", "cannot send SIGTERM to process 0");
    fails("os.kill(1, 'SIGNAL')", "unknown signal: SIGNAL");
    fails("new http.Agent()", "http.Agent expects");
    fails("new http.Directory('/etc/hosts', { fs: true, tarball: true })", "no tar archive");
    fails("YAML.stringify((a => (a.push(a), a))([]))", "contains itself");
    fails("STUN.decode(new Data('abc'))", "STUN");
    fails("BGP.decode(new Data('abc'))", "BGP");
    fails("Netlink.decode(new Data('abc'))", "Netlink");
    fails("protobuf.decode(new Data([0]))", "there is no field 0");
    fails("new protobuf.Message().setInt32(1, 'x')", "protobuf");
    fails("new CStruct({ a: 'quux' })", "unknown type: quux");
    fails("new CStruct({ a: 'char[2]' }).encode({ a: 'abc' })", "3 bytes do not fit char[2]");
    fails("sqlite(':memory:').sql('selekt')", "syntax error");
    fails("sqlite('/no/such/folder/a.db')", "unable to open");
    fails("sqlite(':memory:').sql('select ?').bind(2, 1).step()", "sqlite: select ?");
    fails("(db => (db.close(), db.sql('select 1')))(sqlite(':memory:'))", "is closed");
    fails("new Int('u128', 1)", "'u128' is no type");
    fails("new Int('x')", "'x' is no whole number");
    fails("new Int(1).div(0)", "division by zero");
    fails("new Data([-1])", "a number is out of range");
    fails("pipy.load({})", "expected a text, got an object");
    fails("bpf.object(new Data('x'))", "no object file");
    fails("bpf.Map.open()", "undefined is no number of a map");
    fails("bpf.attach('BPF_CGROUP', 1, '/')", "unknown way to attach: BPF_CGROUP");
    fails("bpf.pin('/a')", "expected the fd");
    fails("new ListenerArray(['http'])", "'http' is no port");
    fails("os.writ('a', 'b')", "os.writ is not a function, did you mean 'write'?");
    fails("(a => (a.push(a), RESP.encode(a)))([])", "contains itself");
}

#[test]
fn a_quota_with_a_key_is_one_for_every_engine() {
    let take = "new algo.Quota(10, { key: 'shared-quota' }).consume(6)";
    assert_eq!(value(take), Ok(Some("6".into())));
    assert_eq!(value(take), Ok(Some("4".into())));
}

#[test]
fn loggers_write_what_they_are_given() {
    let path = std::env::temp_dir().join(format!("pipy-objects-{}.log", std::process::id()));
    let script = format!(
        "(log => (log({{ a: 1 }}), log('b'), 0))(new logging.JSONLogger('x').toFile('{}', {{ append: false }}).log)",
        path.display()
    );
    assert_eq!(value(&script), Ok(Some("0".into())));
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), "{\"a\":1}\n\"b\"\n");
    let _ = std::fs::remove_file(path);
}

#[test]
fn names_are_resolved() {
    let path = std::env::temp_dir().join(format!("pipy-objects-{}.dns", std::process::id()));
    let script = format!(
        "Promise.all(['127.0.0.1', '[::1]', 'no.such.name.invalid'].map(DNS.resolve)).then(all => \
         os.write('{}', JSON.stringify(all)))",
        path.display()
    );
    assert_eq!(value(&script), Ok(None));
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, "[[\"127.0.0.1\"],[\"::1\"],null]");
    let _ = std::fs::remove_file(path);
}
