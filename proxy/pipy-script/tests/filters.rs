//! Options of filters: the reference lists those that there are, and what is none is refused with its place.

use std::rc::Rc;

use pipy_script::{Inline, Limits, TABLE, load, options_of};

const PAGES: &[&str] = &[
    include_str!("../../../docs/reference/pipyjs-filters/codecs.md"),
    include_str!("../../../docs/reference/pipyjs-filters/connections.md"),
    include_str!("../../../docs/reference/pipyjs-filters/events.md"),
    include_str!("../../../docs/reference/pipyjs-filters/http.md"),
    include_str!("../../../docs/reference/pipyjs-filters/pipelines.md"),
    include_str!("../../../docs/reference/pipyjs-filters/streams.md"),
];

/// The filters that have options, `listen` among them.
fn with_options() -> impl Iterator<Item = &'static str> {
    let names = TABLE.iter().map(|entry| entry.name).chain(["listen"]);
    names.filter(|name| !options_of(name).is_empty())
}

/// The options that a section lists: what stands in back-quotes in the first column.
fn documented(section: &str) -> Vec<String> {
    let rows = section.lines().skip_while(|line| !line.starts_with("| option |"));
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    let mut names: Vec<String> = Vec::new();
    for row in rows {
        let first = row.split('|').nth(1).unwrap_or_default();
        names.extend(first.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    names.sort();
    names
}

#[test]
fn the_reference_lists_the_options_that_there_are() {
    let mut seen = Vec::new();
    for section in PAGES.iter().flat_map(|page| page.split("\n## ").skip(1)) {
        let title = section.lines().next().unwrap_or_default();
        let name = if title == "Listening" { "listen" } else { title };
        let mut there: Vec<&str> = options_of(name).to_vec();
        there.sort_unstable();
        assert_eq!(documented(section), there, "{name}");
        seen.push(name);
    }
    for name in with_options() {
        assert!(seen.contains(&name), "{name} is in no page");
    }
}

/// What comes before the options of each filter.
fn before(name: &str) -> &'static str {
    match name {
        "listen" => "8000, ",
        "connect" => "'a:1', ",
        "connectHTTPTunnel" | "serveHTTP" | "replaceMessage" | "replaceMessageBody" => "new Message(''), ",
        "muxHTTP" | "mux" | "muxQueue" | "merge" | "muxFastCGI" => "() => 'key', ",
        "handleMessage" | "handleMessageBody" | "wait" | "detectProtocol" | "handleTLSClientHello" => {
            "() => 0, "
        }
        "throttleConcurrency" | "throttleDataRate" | "throttleMessageRate" => "new algo.Quota(1), ",
        "tee" | "read" | "depositMessage" | "exec" => "'path', ",
        "pack" => "2, ",
        _ => "",
    }
}

fn error(script: &str) -> String {
    load(Rc::new(Inline(script.to_owned())), "/main.js", Limits::default())
        .err()
        .map_or_else(String::new, |error| error.to_string())
}

fn called(name: &str, options: &str) -> String {
    let call = format!("{name}({}{options})", before(name));
    let to = TABLE.iter().any(|entry| entry.name == name && entry.joint == pipy_script::Joint::To);
    match name {
        "listen" => format!("pipy()\n.{call}.dummy()"),
        _ => format!("pipy().listen(8000)\n.{call}{}", if to { ".to($ => $)" } else { "" }),
    }
}

#[test]
fn an_option_that_there_is_not_is_refused_with_its_place_and_the_nearest() {
    for name in with_options() {
        let known = options_of(name)[0];
        let misspelt = format!("{}x", known.to_lowercase());
        let said = error(&called(name, &format!("{{ {misspelt}: 1 }}")));
        // A first argument that is no options may be a key.
        assert!(said.contains(&format!("{name}() has no option {misspelt}")), "{name}: {said}");
        assert!(said.contains(&format!("did you mean {known}?")), "{name}: {said}");
        if name != "listen" {
            assert!(said.contains("/main.js:2:"), "{name}: {said}");
        }
    }
}

#[test]
fn a_value_that_is_none_of_its_kind_is_refused() {
    for (name, options, said) in [
        ("connect", "{ idleTimeout: 'soon' }", "option idleTimeout expects a number of seconds"),
        ("connect", "{ protocol: 'raw' }", "option protocol expects tcp or udp or netlink, not \"raw\""),
        ("connect", "{ protocol: 'netlink', netlinkFamily: -1 }", "option netlinkFamily expects a number"),
        ("connect", "{ protocol: 'netlink', bind: '127.0.0.1' }", "option bind expects a netlink address"),
        ("connect", "{ bind: 'somewhere' }", "option bind expects an IP address"),
        ("connect", "{ retryCount: 1.5 }", "option retryCount expects a whole number"),
        ("connect", "{ onState: 1 }", "option onState expects a function"),
        ("listen", "{ maxConnections: 'many' }", "option maxConnections expects a whole number"),
        ("listen", "{ congestionLimit: 'much' }", "option congestionLimit expects a number of bytes"),
        ("muxHTTP", "{ version: 3 }", "option version expects 1, 2"),
        ("mux", "{ maxIdle: [] }", "option maxIdle expects"),
        ("exec", "{ onExit: 'x' }", "option onExit expects a function"),
        ("replay", "{ delays: 1 }", "did you mean delay?"),
        ("tee", "{ rotateInterval: 'daily' }", "option rotateInterval expects"),
    ] {
        let found = error(&called(name, options));
        assert!(found.contains(said), "{name} {options}: {found}");
    }
}

#[test]
fn what_is_undefined_is_not_given() {
    let script = called("connect", "{ idleTimeout: undefined, onState: null, bind: undefined }");
    assert_eq!(error(&script), "");
}
