//! What we offer the peer, and how much of anything it gets: one named number each.
//!
//! [`Config`] holds what is announced in SETTINGS, [`Limits`] what is not. Numbers are ceilings on
//! our memory and time, so passing them is an error with a code, never a truncation. What others
//! chose is noted: nghttp2 1.6x, Envoy 1.3x, Go's x/net.

/// Settings of our side of one connection (RFC 9113 §6.5.2). `Config::default()` suits a sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Requests at once that the peer may have open. Default 100, which RFC 9113 §6.5.2 recommends
    /// at least (nginx 128, Envoy 2^31-1, Go 250).
    pub max_concurrent_streams: u32,
    /// Bytes of body that the peer may send ahead on one stream. Default 262,144: a round trip of
    /// 1 ms still carries 2 Gbit/s (nghttp2 64 Ki, Envoy 256 Mi, Go 1 Mi).
    pub stream_window: u32,
    /// The same for all streams of the connection together: the bound on memory for bodies that we
    /// have not passed on. Default 1,048,576. Values below 65,535 count as that, the protocol's least.
    pub connection_window: u32,
    /// Bytes of the payload of a frame, 16,384 to 16,777,215. Default 16,384: larger frames block
    /// the others longer.
    pub max_frame_size: u32,
    /// Bytes of the table in which the peer's fields are remembered, and the most that ours takes.
    /// Default 4,096, the protocol's own default (Envoy and Go the same).
    pub header_table_size: u32,
    /// Bytes of a header list, as RFC 9113 §6.5.2 counts them: names, values, and 32 for each field.
    /// Default 65,536, as for HTTP/1 heads (nghttp2 64 Ki, Envoy 60 Ki, Go 1 Mi).
    pub header_list_bytes_max: u32,
    /// Whether clients may ask for upgrades by extended CONNECT (RFC 8441). Default no.
    pub extended_connect: bool,
    /// What is not announced.
    pub limits: Limits,
}

/// Limits that the peer learns only by passing them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Header fields in one head or trailer section, cookies counted once. Default 128, as for
    /// HTTP/1: finding a name is a linear scan.
    pub headers_max: u32,
    /// Bytes of `:path`. Default 16,384, as for HTTP/1.
    pub target_bytes_max: u32,
    /// Compressed bytes of a header block. Default 65,536: no encoder makes a list longer than it
    /// was, so a block over it holds a list over its limit.
    pub header_block_bytes_max: u32,
    /// CONTINUATION frames of one header block. Default 16: a block of the maximum size needs four
    /// (nghttp2 8, Envoy bounds bytes alone).
    pub continuations_max: u32,
    /// Interim (1xx) responses before the final one. Default 16, as for HTTP/1.
    pub interim_max: u32,
    /// Bytes queued on one stream after which the caller is told to wait. Default 65,536: enough to
    /// fill a frame whenever the peer's window opens.
    pub send_queue_bytes_high: u32,
    /// Bytes queued on one stream after which [`SendError::QueueFull`](crate::SendError::QueueFull)
    /// ends the patience with a caller that does not wait. Default 4,194,304.
    pub send_queue_bytes_max: u32,
    /// Bytes of acknowledgements, resets and window updates that wait for
    /// [`poll_output`](crate::Connection::poll_output). Default 65,536: five thousand of them are
    /// not a conversation.
    pub reply_bytes_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 100,
            stream_window: 256 * 1024,
            connection_window: 1024 * 1024,
            max_frame_size: MAX_FRAME_SIZE_MIN,
            header_table_size: 4096,
            header_list_bytes_max: 64 * 1024,
            extended_connect: false,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            headers_max: 128,
            target_bytes_max: 16 * 1024,
            header_block_bytes_max: 64 * 1024,
            continuations_max: 16,
            interim_max: 16,
            send_queue_bytes_high: 64 * 1024,
            send_queue_bytes_max: 4 * 1024 * 1024,
            reply_bytes_max: 64 * 1024,
        }
    }
}

impl Config {
    /// The [`connection_window`](Self::connection_window) with which so many streams can't hold each other up: it has room
    /// for all of their windows when nobody takes what came on them, and as much again for what was taken and is not
    /// announced yet. The bound on memory is then that of the streams together.
    pub fn window_apart(&self, streams: u32) -> u32 {
        self.stream_window.saturating_mul(2).saturating_mul(streams).min(WINDOW_MAX)
    }

    /// The same with every value in the range that the protocol has for it.
    pub(crate) fn within_protocol(mut self) -> Self {
        self.stream_window = self.stream_window.min(WINDOW_MAX);
        self.connection_window = self.connection_window.clamp(WINDOW_DEFAULT, WINDOW_MAX);
        self.max_frame_size = self.max_frame_size.clamp(MAX_FRAME_SIZE_MIN, MAX_FRAME_SIZE_MAX);
        self
    }
}

/// RFC 9113 §6.9.1: the largest window.
pub(crate) const WINDOW_MAX: u32 = (1 << 31) - 1;
/// RFC 9113 §6.9.2: the windows of a connection and of its streams before any SETTINGS.
pub(crate) const WINDOW_DEFAULT: u32 = 65_535;
/// RFC 9113 §6.5.2: the range of SETTINGS_MAX_FRAME_SIZE.
pub(crate) const MAX_FRAME_SIZE_MIN: u32 = 1 << 14;
pub(crate) const MAX_FRAME_SIZE_MAX: u32 = (1 << 24) - 1;
