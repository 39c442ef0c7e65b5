//! What peers may send ahead and at once, in bytes, where whoever uses a codec of HTTP has something to say about it.
//!
//! INVARIANT: zero means what the codec thinks right. Not here: limits of time and number (they are the filters').

use pipy_h2::Config;

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CodecBytes {
    /// A head, in either version.
    pub head_max: u32,
    /// Body that may be sent ahead on one stream of HTTP/2.
    pub stream_window: u32,
    /// The same for all streams of a connection.
    pub connection_window: u32,
}

impl CodecBytes {
    /// What the codecs think right.
    pub const STANDARD: CodecBytes = CodecBytes { head_max: 0, stream_window: 0, connection_window: 0 };

    /// The limits of a codec of HTTP/1.
    pub(crate) fn http1(self) -> pipy_http::Limits {
        let limits = pipy_http::Limits::default();
        match self.head_max {
            0 => limits,
            most => pipy_http::Limits {
                head_bytes_max: most,
                target_bytes_max: limits.target_bytes_max.max(most),
                ..limits
            },
        }
    }

    /// The settings of a codec of HTTP/2.
    pub(crate) fn http2(self, config: Config) -> Config {
        let or = |given: u32, standard: u32| if given == 0 { standard } else { given };
        Config {
            header_list_bytes_max: or(self.head_max, config.header_list_bytes_max),
            stream_window: or(self.stream_window, config.stream_window),
            connection_window: or(self.connection_window, config.connection_window),
            ..config
        }
    }
}
