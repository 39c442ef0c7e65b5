//! Options of filters and listeners: which there are, and how their values are read.
//!
//! What is no option of a filter, and a value that is none of its kind, is refused with the place in the script, the nearest
//! name, and what was expected. INVARIANT: every option that the reference lists is here, and the other way round (a test
//! compares them).

use std::time::Duration;

use rquickjs::{Coerced, Ctx, Exception, Object, Result, Value};

use super::connect::duration;
use super::handle::size_of;
use crate::engine::Kept;

const HTTP_SERVER: &[&str] =
    &["bufferSize", "connectionWindowSize", "maxHeaderSize", "maxMessages", "streamWindowSize"];
const MUX: &[&str] = &["maxIdle", "maxMessages", "maxQueue", "outputCount"];

/// The last is for who connects alone.
const CONNECT_TLS: [&str; 14] = [
    "alpn",
    "certificate",
    "ciphers",
    "dhparam",
    "handshake",
    "handshakeTimeout",
    "maxVersion",
    "minVersion",
    "ntls",
    "onState",
    "onVerify",
    "trusted",
    "verify",
    "sni",
];
const ACCEPT_TLS: &[&str] = {
    let [both @ .., _] = &CONNECT_TLS;
    both
};

/// The options of each filter that has any, and of `listen`.
const ALL: &[(&[&str], &[&str])] = &[
    (
        &["listen"],
        &[
            "bufferLimit",
            "closeEOF",
            "congestionLimit",
            "idleTimeout",
            "keepAlive",
            "masquerade",
            "maxConnections",
            "maxPortConnections",
            "noDelay",
            "peerStats",
            "protocol",
            "readTimeout",
            "reuse",
            "transparent",
            "writeTimeout",
        ],
    ),
    (
        &["connect"],
        &[
            "bind",
            "bufferLimit",
            "congestionLimit",
            "connectTimeout",
            "idleTimeout",
            "keepAlive",
            "netlinkFamily",
            "noDelay",
            "onState",
            "protocol",
            "readTimeout",
            "retryCount",
            "retryDelay",
            "writeTimeout",
        ],
    ),
    (&["acceptTLS"], ACCEPT_TLS),
    (&["connectTLS"], &CONNECT_TLS),
    (&["connectHTTPTunnel"], &["onState"]),
    (&["demuxHTTP", "serveHTTP"], HTTP_SERVER),
    (
        &["muxHTTP"],
        &[
            "bufferSize",
            "connectionWindowSize",
            "maxHeaderSize",
            "maxIdle",
            "maxMessages",
            "maxQueue",
            "outputCount",
            "ping",
            "streamWindowSize",
            "version",
        ],
    ),
    (&["encodeHTTPRequest", "encodeHTTPResponse"], &["bufferSize"]),
    (&["mux", "muxQueue", "merge", "muxFastCGI"], MUX),
    (&["demux", "demuxQueue"], &["isOneWay", "outputCount"]),
    (&["handleMessage", "handleMessageBody", "replaceMessage", "replaceMessageBody"], &["size"]),
    (&["replay"], &["delay"]),
    (&["wait"], &["timeout"]),
    (&["detectProtocol", "handleTLSClientHello"], &["timeout"]),
    (&["throttleConcurrency", "throttleDataRate", "throttleMessageRate"], &["blockInput"]),
    (&["tee"], &["append", "maxFileCount", "maxFileSize", "rotateInterval", "shared"]),
    (&["read"], &["seek", "size"]),
    (&["pack"], &["interval", "postfix", "prefix", "separator", "timeout", "vacancy"]),
    (&["depositMessage"], &["keep", "threshold"]),
    (&["exec"], &["env", "onExit", "onStart", "pty", "stderr"]),
    (&["compressHTTP"], &["enabled", "level", "method"]),
    (&["compress", "compressMessage"], &["level", "method"]),
    (&["decodeMQTT", "encodeMQTT"], &["protocolLevel"]),
    (&["decodeBGP", "encodeBGP"], &["enableAS4"]),
];

/// The names of a filter's options; of listeners', for `listen`.
pub fn options_of(filter: &str) -> &'static [&'static str] {
    ALL.iter().find(|(filters, _)| filters.contains(&filter)).map_or(&[], |(_, options)| options)
}

/// The options that a script has given to one filter.
pub(crate) struct Options<'r, 'js> {
    ctx: &'r Ctx<'js>,
    name: &'r str,
    label: &'r str,
    object: Object<'js>,
}

impl<'r, 'js> Options<'r, 'js> {
    /// Those of a filter, which must all be options of it.
    pub(crate) fn new(ctx: &'r Ctx<'js>, name: &'r str, label: &'r str, object: Object<'js>) -> Result<Self> {
        let options = Options { ctx, name, label, object };
        let known = options_of(name);
        for given in options.object.keys::<String>() {
            let given = given?;
            if !known.contains(&given.as_str()) {
                let nearest = nearest(&given, known);
                return Err(options.refuse(&format!("has no option {given}{nearest}")));
            }
        }
        Ok(options)
    }

    fn refuse(&self, why: &str) -> rquickjs::Error {
        Exception::throw_type(self.ctx, &format!("{}: {}() {why}", self.label, self.name))
    }

    fn expects(&self, option: &str, what: &str) -> rquickjs::Error {
        self.refuse(&format!("option {option} expects {what}"))
    }

    /// What was given; `None` for undefined and null.
    pub(crate) fn value(&self, option: &str) -> Result<Option<Value<'js>>> {
        debug_assert!(options_of(self.name).contains(&option), "{} has no option {option}", self.name);
        let value: Value<'js> = self.object.get(option)?;
        Ok((!value.is_undefined() && !value.is_null()).then_some(value))
    }

    /// The same, to be kept.
    pub(crate) fn kept(&self, option: &str) -> Result<Option<Kept>> {
        Ok(self.value(option)?.map(|value| super::ask::keep(self.ctx, value)))
    }

    /// A function.
    pub(crate) fn callback(&self, option: &str) -> Result<Option<Kept>> {
        match self.value(option)? {
            Some(value) if !value.is_function() => Err(self.expects(option, "a function")),
            value => Ok(value.map(|value| super::ask::keep(self.ctx, value))),
        }
    }

    /// A time.
    pub(crate) fn duration(&self, option: &str) -> Result<Option<Duration>> {
        let expects = || self.expects(option, "a number of seconds, or text such as 100ms, 5s, 2m");
        self.value(option)?.map(|value| duration(&value).ok_or_else(expects)).transpose()
    }

    /// A number of bytes.
    pub(crate) fn size(&self, option: &str) -> Result<Option<usize>> {
        let expects = || self.expects(option, "a number of bytes, or text such as 16k, 1m");
        self.value(option)?.map(|value| size_of(&value).ok_or_else(expects)).transpose()
    }

    /// A number of things; where it is below zero, that means any number.
    pub(crate) fn count(&self, option: &str) -> Result<Option<i64>> {
        let expects = || self.expects(option, "a whole number");
        #[allow(clippy::cast_possible_truncation)] // it is whole
        let whole = |number: f64| (number.fract() == 0.0).then_some(number as i64);
        self.value(option)?.map(|value| value.as_number().and_then(whole).ok_or_else(expects)).transpose()
    }

    /// Yes or no.
    pub(crate) fn flag(&self, option: &str) -> Result<Option<bool>> {
        self.value(option)?.map(|value| Ok(value.get::<Coerced<bool>>()?.0)).transpose()
    }

    /// Text, one of these.
    pub(crate) fn one_of(&self, option: &str, known: &[&'static str]) -> Result<Option<&'static str>> {
        let Some(value) = self.value(option)? else { return Ok(None) };
        let text = value.get::<Coerced<String>>()?.0;
        match known.iter().find(|known| **known == text) {
            Some(known) => Ok(Some(known)),
            None => Err(self.expects(option, &format!("{}, not {text:?}", known.join(" or ")))),
        }
    }

    /// An error about an option's value.
    pub(crate) fn wrong(&self, option: &str, why: &str) -> rquickjs::Error {
        self.refuse(&format!("option {option} {why}"))
    }
}

/// `; did you mean X?`, or which there are.
fn nearest(given: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&given.to_lowercase(), &known.to_lowercase()), *known))
        .min();
    match near {
        Some((distance, known)) if distance <= known.len() / 3 + 1 => format!("; did you mean {known}?"),
        Some(_) => format!("; it has {}", known.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_option_is_named() {
        assert_eq!(nearest("idletimeout", options_of("connect")), "; did you mean idleTimeout?");
        assert_eq!(nearest("colour", options_of("replay")), "; it has delay");
        assert!(nearest("colour", options_of("dummy")).is_empty());
    }
}
