//! `connect`: where to, and how: the options, fixed or asked for by each connection. The connection itself is in
//! `connect/connection.rs`.
//!
//! Where the filter ends a row of two directions it stands in that row itself, elsewhere the connection has a pipeline of its
//! own.

mod connection;
mod netlink;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use pipy_pipeline::{Filter, SocketLimits};
use rquickjs::{Coerced, Result, Value};

use self::connection::Connection;
use super::ask::Asker;
use super::datagrams::{Framed, Unframed};
use super::options::Options;
use super::sub::Nested;
use crate::engine::Kept;
use crate::layout::{FilterDef, Reading, Scope};
use crate::timers::FOREVER;

struct Connect {
    to: Kept,
    /// The address is no function: it is connected to at once.
    fixed: bool,
    settings: Settings,
    /// Asked for other settings, by each connection.
    asked: Option<Kept>,
    asker: Asker,
}

/// What a connection is made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
    Netlink,
}

impl Protocol {
    const fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Netlink => "netlink",
        }
    }
}

/// How a connection is made and kept.
#[derive(Clone)]
struct Settings {
    protocol: Protocol,
    /// Of the kernel's families.
    netlink_family: u32,
    bind: Option<Kept>,
    on_state: Option<Kept>,
    /// How often it is tried again; `None` for ever.
    retries: Option<u32>,
    retry_delay: Duration,
    connect_timeout: Duration,
    /// `None` where the script says nothing.
    idle_timeout: Option<Duration>,
    read_timeout: Duration,
    write_timeout: Duration,
    limits: SocketLimits,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            protocol: Protocol::Tcp,
            netlink_family: 0,
            bind: None,
            on_state: None,
            retries: Some(0),
            retry_delay: Duration::ZERO,
            connect_timeout: Duration::ZERO,
            idle_timeout: None,
            read_timeout: Duration::ZERO,
            write_timeout: Duration::ZERO,
            limits: SocketLimits::default(),
        }
    }
}

impl Settings {
    fn read(mut self, options: &Options<'_, '_>) -> Result<Self> {
        if let Some(protocol) = options.one_of("protocol", &["tcp", "udp", "netlink"])? {
            self.protocol = match protocol {
                "tcp" => Protocol::Tcp,
                "udp" => Protocol::Udp,
                _ => Protocol::Netlink,
            };
        }
        if let Some(family) = options.count("netlinkFamily")? {
            let wrong = || options.wrong("netlinkFamily", "expects a number of netlink(7), such as 0");
            self.netlink_family = u32::try_from(family).map_err(|_| wrong())?;
        }
        if let Some(time) = options.duration("idleTimeout")? {
            self.idle_timeout = Some(time);
        }
        for (name, time) in [
            ("retryDelay", &mut self.retry_delay),
            ("connectTimeout", &mut self.connect_timeout),
            ("readTimeout", &mut self.read_timeout),
            ("writeTimeout", &mut self.write_timeout),
        ] {
            if let Some(given) = options.duration(name)? {
                *time = given;
            }
        }
        if let Some(count) = options.count("retryCount")? {
            self.retries = if count < 0 { None } else { Some(u32::try_from(count).unwrap_or(u32::MAX)) };
        }
        self.limits = socket_limits(options)?;
        if let Some(value) = options.value("bind")? {
            let said = || value.get::<Coerced<String>>().map(|said| said.0);
            let expects = match self.protocol {
                _ if value.is_function() => None,
                Protocol::Netlink if netlink::address(&said()?).is_none() => Some(netlink::EXPECTED),
                Protocol::Tcp | Protocol::Udp if source(&said()?).is_none() => Some(SOURCE_EXPECTED),
                _ => None,
            };
            if let Some(expects) = expects {
                return Err(options.wrong("bind", &format!("expects {expects}")));
            }
            self.bind = options.kept("bind")?;
        }
        if let Some(on_state) = options.callback("onState")? {
            self.on_state = Some(on_state);
        }
        Ok(self)
    }
}

/// The options about sockets that listeners have too.
pub(super) fn socket_limits(options: &Options<'_, '_>) -> Result<SocketLimits> {
    Ok(SocketLimits {
        congestion: options.size("congestionLimit")?.unwrap_or(0),
        buffer: options.size("bufferLimit")?.unwrap_or(0),
        keep_alive: options.flag("keepAlive")?.unwrap_or(true),
        no_delay: options.flag("noDelay")?.unwrap_or(true),
    })
}

pub(super) fn make(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let to = reading.kept(0).ok_or_else(|| reading.refuse("expects an address"))?;
    let mut settings = Settings::default();
    if let Some(options) = reading.settings(1)? {
        settings = settings.read(&options)?;
    }
    let connect = Connect {
        to,
        fixed: reading.callback(0).is_none(),
        settings,
        asked: reading.kept(1).filter(|_| reading.callback(1).is_some()),
        asker: Asker { name: reading.name, label: reading.label.clone() },
    };
    Ok(Rc::new(ConnectDef(Rc::new(connect))))
}

struct ConnectDef(Rc<Connect>);

impl FilterDef for ConnectDef {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        let connection = Box::new(Connection::new(Rc::clone(&self.0), scope, false));
        if self.0.settings.protocol == Protocol::Udp {
            let row: Vec<Box<dyn Filter>> =
                vec![Box::new(Unframed::default()), connection, Box::new(Framed::new(scope))];
            return Box::new(Nested::turning("connect", row));
        }
        connection
    }

    fn native(&self, scope: &Scope) -> Option<Vec<Box<dyn Filter>>> {
        let direct = || -> Box<dyn Filter> { Box::new(Connection::new(Rc::clone(&self.0), scope, true)) };
        (self.0.settings.protocol != Protocol::Udp).then(|| vec![direct()])
    }
}

impl Connect {
    /// Where to, as the script says it.
    fn address(&self, scope: &Scope) -> Option<String> {
        self.asker.ask(
            scope,
            &self.to,
            |_, _| Ok(Vec::new()),
            |ctx, _, value| match value.is_undefined() || value.is_null() {
                true => Err(rquickjs::Exception::throw_type(ctx, "there is no address to connect to")),
                false => Ok(value.get::<Coerced<String>>()?.0),
            },
        )
    }

    /// The settings of a connection in this scope.
    fn settings(&self, scope: &Scope) -> Option<Settings> {
        let given = self.settings.clone();
        let Some(asked) = &self.asked else { return Some(given) };
        self.asker.ask(
            scope,
            asked,
            |_, _| Ok(Vec::new()),
            |ctx, _, value| {
                let Some(object) = value.into_object() else { return Ok(given) };
                let settings = given.read(&Options::new(ctx, "connect", &self.asker.label, object)?)?;
                if settings.protocol == Protocol::Udp {
                    let why = "option protocol cannot be 'udp' where a function returns the options";
                    return Err(rquickjs::Exception::throw_type(ctx, why));
                }
                Ok(settings)
            },
        )
    }

    /// The address to connect from, as `read` understands it. The inner option is for the kernel to choose.
    fn own_address<T>(
        &self,
        settings: &Settings,
        scope: &Scope,
        read: impl Fn(&str) -> Option<T>,
        expected: &str,
    ) -> Option<Option<T>> {
        let Some(bind) = &settings.bind else { return Some(None) };
        self.asker.ask(
            scope,
            bind,
            |_, _| Ok(Vec::new()),
            |ctx, _, value| {
                if value.is_undefined() || value.is_null() {
                    return Ok(None);
                }
                let said = value.get::<Coerced<String>>()?.0;
                let wrong = || {
                    let why = format!("{said:?} is nothing to bind to: expected {expected}");
                    rquickjs::Exception::throw_type(ctx, &why)
                };
                read(&said).ok_or_else(wrong).map(Some)
            },
        )
    }
}

/// A number of seconds, or a text such as `100ms`, `5s`, `2m`, `1h`.
pub(crate) fn duration(value: &Value<'_>) -> Option<Duration> {
    if let Some(seconds) = value.as_number() {
        return Duration::try_from_secs_f64(seconds).ok().map(|time| time.min(FOREVER));
    }
    let text = value.as_string()?.to_string().ok()?;
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(digits.parse::<f64>().ok()? * factor).ok().map(|time| time.min(FOREVER))
}

/// An address that needs no resolver.
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if bare == "localhost" { Some(Ipv4Addr::LOCALHOST.into()) } else { bare.parse().ok() }
}

const SOURCE_EXPECTED: &str = "an IP address, with or without a port";

/// An address to connect from; a port is the kernel's to choose.
fn source(said: &str) -> Option<IpAddr> {
    said.parse().ok().or_else(|| said.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// `host:port`, with the port behind the last colon.
fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    (!host.is_empty()).then_some(())?;
    Some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_at_the_last_colon() {
        assert_eq!(host_and_port("a.b:80"), Some(("a.b", 80)));
        assert_eq!(host_and_port("[::1]:80"), Some(("[::1]", 80)));
        for bad in ["a.b", ":80", "a:http", "a:99999"] {
            assert_eq!(host_and_port(bad), None, "{bad}");
        }
        assert_eq!(literal("[::1]"), "::1".parse().ok());
        assert_eq!(literal("localhost"), "127.0.0.1".parse().ok());
        assert_eq!(literal("example"), None);
        assert_eq!(source("127.0.0.2:99"), "127.0.0.2".parse().ok());
        assert_eq!(source("localhost"), None);
    }
}
