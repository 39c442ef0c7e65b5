//! The options of `muxHTTP`: fixed, or asked for by each stream.

use std::time::Duration;

use pipy_filters::{CodecBytes, Http2Settings, Scheme};
use rquickjs::{Coerced, Result, Value};

use crate::engine::Kept;
use crate::filters::ask::Asker;
use crate::filters::options::Options;
use crate::layout::{Reading, Scope};

/// How connections are used.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) http2: bool,
    /// Asked for the version instead.
    version: Option<Kept>,
    /// Requests that a connection takes; 0: any number.
    pub(super) max_messages: u32,
    /// What both versions have in common is in here too.
    pub(super) second: Http2Settings,
}

/// Where settings come from.
pub(super) struct Source {
    given: Settings,
    asked: Option<Kept>,
    asker: Asker,
}

impl Default for Settings {
    fn default() -> Self {
        let second = Http2Settings {
            scheme: Scheme::Http,
            // How long a connection without a request is kept.
            idle: Duration::from_secs(60),
            keepalive: Duration::ZERO,
            age: Duration::ZERO,
            streams_max: 0,
            bytes: CodecBytes::STANDARD,
        };
        Settings { http2: false, version: None, max_messages: 0, second }
    }
}

impl Settings {
    fn read(mut self, options: &Options<'_, '_>) -> Result<Self> {
        match options.value("version")? {
            Some(value) if value.is_function() => self.version = options.kept("version")?,
            Some(value) => {
                self.http2 = is_http2(&value)?.ok_or_else(|| options.wrong("version", VERSIONS))?;
            }
            None => {}
        }
        if let Some(time) = options.duration("maxIdle")? {
            self.second.idle = time;
        }
        if let Some(most) = options.count("maxMessages")? {
            self.max_messages = most.try_into().unwrap_or(0);
        }
        if let Some(most) = options.count("maxQueue")? {
            self.second.streams_max = most.try_into().unwrap_or(0);
        }
        self.second.bytes = codec_bytes(options)?;
        Ok(self)
    }
}

const VERSIONS: &str = "expects 1, 2, 'http/1', 'http/1.0', 'http/1.1', 'http/2' or 'h2'";

/// What a version says; `None` where it says none.
fn is_http2(value: &Value<'_>) -> Result<Option<bool>> {
    Ok(match value.get::<Coerced<String>>()?.0.to_ascii_lowercase().as_str() {
        "2" | "http/2" | "http/2.0" | "h2" => Some(true),
        "" | "1" | "1.0" | "1.1" | "http/1" | "http/1.0" | "http/1.1" | "undefined" | "null" => Some(false),
        _ => None,
    })
}

/// The options that both sides of HTTP have.
pub(in crate::filters) fn codec_bytes(options: &Options<'_, '_>) -> Result<CodecBytes> {
    let size = |name: &str| -> Result<u32> {
        Ok(options.size(name)?.map_or(0, |size| u32::try_from(size).unwrap_or(u32::MAX)))
    };
    Ok(CodecBytes {
        head_max: size("maxHeaderSize")?,
        stream_window: size("streamWindowSize")?,
        connection_window: size("connectionWindowSize")?,
    })
}

impl Source {
    /// The options at this place among the arguments.
    pub(super) fn read(reading: &Reading<'_, '_>, index: usize) -> Result<Self> {
        let mut given = Settings::default();
        if let Some(options) = reading.settings(index)? {
            given = given.read(&options)?;
        }
        let asked = reading.kept(1).filter(|_| reading.callback(1).is_some());
        let asker = Asker { name: reading.name, label: reading.label.clone() };
        Ok(Source { given, asked, asker })
    }

    /// What holds in a scope; `None` where the script has failed.
    pub(super) fn settings(&self, scope: &Scope) -> Option<Settings> {
        let mut settings = self.given.clone();
        if let Some(asked) = &self.asked {
            let Asker { name, label } = &self.asker;
            settings = self.asker.ask(
                scope,
                asked,
                |_, _| Ok(Vec::new()),
                |ctx, _, value| match value.into_object() {
                    Some(object) => settings.read(&Options::new(ctx, name, label, object)?),
                    None => Ok(settings),
                },
            )?;
        }
        if let Some(version) = settings.version.take() {
            settings.http2 = self.asker.ask(
                scope,
                &version,
                |_, _| Ok(Vec::new()),
                |ctx, _, value| {
                    let wrong = || {
                        rquickjs::Exception::throw_type(
                            ctx,
                            &format!("the function for option version {VERSIONS}"),
                        )
                    };
                    is_http2(&value)?.ok_or_else(wrong)
                },
            )?;
        }
        Some(settings)
    }
}
