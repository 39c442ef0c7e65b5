//! How much of a message is read before it is refused: one named number per buffer and per loop.
//!
//! The numbers are the peer's ceiling on our memory and time, so they are refusals (431, 414, 400),
//! not truncations. What others chose is noted at each field: nginx 1.26, Envoy 1.3x, HAProxy 3,
//! hyper 1. All are `u32`: a decoder lives in every idle connection, and 28 bytes matter there.

/// The limits of one decoder. `Limits::default()` suits a sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, from the first byte of its first line through the empty line. Default
    /// 65,536: large cookies and tokens pass, and an attacker's cost to us stays small (nginx 32 Ki,
    /// Envoy 60 Ki, HAProxy 16 Ki, hyper 400 Ki).
    pub head_bytes_max: u32,
    /// Header fields in one head or one trailer section. Default 128: finding a name is a linear
    /// scan (Envoy and hyper 100, HAProxy 101).
    pub headers_max: u32,
    /// Bytes of the request target. Default 16,384 (RFC 9112 §3 asks for 8,000 at least; nginx 8 Ki).
    pub target_bytes_max: u32,
    /// Bytes of a trailer section through its empty line. Default 8,192: checksums and gRPC status
    /// need some hundred (hyper 16 Ki).
    pub trailer_bytes_max: u32,
    /// Bytes of one chunk-size line, extensions and CRLF included. Default 1,024: enough for any
    /// extension seen in the field, and small enough to scan for each chunk.
    pub chunk_line_bytes_max: u32,
    /// Bytes of chunk extensions over a whole body. Default 8,192: extensions are thrown away, so
    /// without a sum a peer could send for ever and deliver nothing (hyper 16 Ki).
    pub chunk_extension_bytes_max: u32,
    /// Interim (1xx) responses before the final one. Default 16: each costs a head's work, and real
    /// servers send one or two.
    pub interim_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: 64 * 1024,
            headers_max: 128,
            target_bytes_max: 16 * 1024,
            trailer_bytes_max: 8 * 1024,
            chunk_line_bytes_max: 1024,
            chunk_extension_bytes_max: 8 * 1024,
            interim_max: 16,
        }
    }
}
