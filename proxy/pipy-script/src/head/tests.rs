//! Native heads as scripts use them: each line of JavaScript is what users write.

use std::rc::Rc;

use pipy_http::{Headers, Method, RequestHead, ResponseHead};
use pipy_pipeline::Head;
use rquickjs::Value;

use crate::files::Inline;
use crate::{Limits, Loaded, load};

fn engine() -> Loaded {
    // Long enough for a machine that has other things to do.
    let limits = Limits { time: std::time::Duration::from_secs(60), ..Limits::default() };
    load(Rc::new(Inline("pipy()".into())), "/main.js", limits).unwrap()
}

fn request() -> Head {
    let mut head = RequestHead::new(Method::Post, "/path?a=b");
    let fields = [
        ("Host", "example.com"),
        ("X-Twice", "1"),
        ("x-twice", "2"),
        ("Connection", "close"),
        ("Cookie", "a=1"),
    ];
    for (name, value) in fields {
        head.headers.append(name, value).unwrap();
    }
    Head::Request(Box::new(head))
}

fn response() -> Head {
    let mut head = ResponseHead::new(404);
    for value in ["a=1", "b=2"] {
        head.headers.append("Set-Cookie", value).unwrap();
    }
    Head::Response(Box::new(head))
}

/// Runs a script that has the head as `head`; what it says, and the head when it is over.
fn run(head: Head, script: &str) -> (String, Head) {
    let loaded = engine();
    let engine = &loaded.script.engine;
    let shared = super::share(head);
    let said = engine.with(|ctx| {
        let makers = engine.makers(ctx)?;
        let object = makers.shared(ctx, Rc::clone(&shared))?;
        ctx.globals().set("head", object.clone())?;
        let value: Value<'_> = ctx.eval(script)?;
        let said = crate::console::show(&value);
        super::settle(ctx, &makers.known, &object)?;
        ctx.globals().remove("head")?;
        Ok(said)
    });
    let said = said.unwrap_or_else(|error| error.to_string());
    (said, super::copy(&shared.borrow()))
}

fn says(head: Head, script: &str) -> String {
    run(head, script).0
}

fn headers(head: &Head) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let of = |headers: &Headers| headers.iter().map(|(name, value)| (text(name), text(value))).collect();
    of(crate::headers::of(head))
}

#[test]
fn a_request_is_read() {
    for (script, expected) in [
        ("head.method + ' ' + head.path + ' ' + head.protocol", "POST /path?a=b HTTP/1.1"),
        ("head.authority", "example.com"),
        ("head.headers.host", "example.com"),
        ("head.headers['x-twice']", "1, 2"),
        ("head.headers.connection", "undefined"),
        ("head.headers['not-there'] ?? 'none'", "none"),
        ("'host' in head.headers", "true"),
        ("'connection' in head.headers", "false"),
        ("head.headers.hasOwnProperty('x-twice')", "true"),
        ("Object.keys(head.headers).join()", "host,x-twice,cookie"),
        ("Object.keys(head).join()", "protocol,method,path,scheme,authority,headers,headerNames"),
        ("JSON.stringify(head.headers)", r#"{"host":"example.com","x-twice":"1, 2","cookie":"a=1"}"#),
        ("JSON.stringify({ ...head.headers, a: 1 }).length", "60"),
        ("({ ...head }).headers.host", "example.com"),
        ("head.headers === head.headers", "true"),
        ("head.headerNames['x-twice']", "x-twice"),
        ("let n = 0; for (const name in head.headers) n++; n", "3"),
        ("`${head.headers}`", "[object Object]"),
    ] {
        assert_eq!(says(request(), script), expected, "{script}");
    }
}

#[test]
fn a_response_is_read() {
    assert_eq!(says(response(), "head.status + head.statusText"), "404Not Found");
    assert_eq!(says(response(), "head.headers['set-cookie'].join()"), "a=1,b=2");
    assert_eq!(says(response(), "head.method"), "undefined");
}

#[test]
fn what_is_written_is_sent() {
    let (_, head) = run(
        request(),
        "head.method = 'PUT'; head.path = '/other'; head.headers['X-New'] = 5; head.headers.host = 'else';
         delete head.headers['x-twice']; head.headers.cookie = ['a', 'b']; head.headers.gone = null;
         head.headers['content-length'] = 7; head.mine = 'kept'",
    );
    let Head::Request(request) = &head else { panic!("a request") };
    assert_eq!(request.method, Method::Put);
    assert_eq!(request.target, b"/other");
    let expected =
        [("Host", "else"), ("Connection", "close"), ("X-New", "5"), ("cookie", "a"), ("cookie", "b")];
    let expected: Vec<_> = expected.iter().map(|(n, v)| ((*n).to_string(), (*v).to_string())).collect();
    assert_eq!(headers(&head), expected);
}

#[test]
fn headers_in_the_place_of_all_are_read_when_the_callback_is_over() {
    let (said, head) = run(
        request(),
        "let h = {}; head.headers = h; h.host = 'x'; h['x-twice'] = 'once'; head.headers === h",
    );
    assert_eq!(said, "true");
    let expected = [("Host", "x"), ("X-Twice", "once")].map(|(n, v)| (n.to_string(), v.to_string()));
    assert_eq!(headers(&head), expected);
}

#[test]
fn a_status_brings_its_words() {
    let Head::Response(head) = run(response(), "head.status = 503").1 else { panic!("a response") };
    assert_eq!((head.status, &*head.reason), (503, b"Service Unavailable".as_slice()));
    let Head::Response(head) = run(response(), "head.statusText = 'Gone Fishing'; head.status = 503").1
    else {
        panic!("a response")
    };
    assert_eq!(&*head.reason, b"Gone Fishing");
}

#[test]
fn what_cannot_be_written_is_an_error() {
    for (script, expected) in [
        ("head.headers['x'] = 'a\\r\\nb: c'", "header \"x\" cannot be sent"),
        ("head.headers['a b'] = 'c'", "header \"a b\" cannot be sent"),
        ("head.method = 'a b'", "the head cannot be sent"),
        ("head.headers.x = Symbol()", "symbol"),
        ("head.headers.x = { toString() { throw new Error('mine') } }", "mine"),
    ] {
        let (said, head) = run(request(), script);
        assert!(said.contains(expected), "{script}: {said}");
        assert_eq!(headers(&head).len(), 5, "{script}");
    }
    assert!(says(response(), "head.status = 7").contains("status: 7 is none"));
    assert!(says(response(), "head.statusText = 'a\\nb'").contains("line break"));
}

/// See `raw::hold`: one count too few would crash here, one too many would grow.
#[test]
fn setting_headers_neither_leaks_nor_frees_twice() {
    let loaded = engine();
    let engine = &loaded.script.engine;
    let shared = super::share(request());
    let write = |times: usize| {
        engine
            .with(|ctx| {
                let makers = engine.makers(ctx)?;
                ctx.globals().set("head", makers.shared(ctx, Rc::clone(&shared))?)?;
                ctx.eval::<(), _>(format!(
                    "for (let i = 0; i < {times}; i++) {{ head.headers['x-long'] = 'v'.repeat(500) + i; head.path = '/' + i; }}"
                ))
            })
            .unwrap();
        engine.run_jobs();
        engine.memory_used()
    };
    write(100);
    let before = write(100);
    let after = write(5_000);
    assert!(after < before + 100_000, "the engine has grown from {before} to {after} bytes");
}
