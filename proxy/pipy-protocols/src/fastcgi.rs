//! FastCGI 1.0, both roles: what web servers say to applications such as PHP, and their answers.
//!
//! Many requests share a connection, so events come with their request's id. A request's head is `{role,
//! keepAlive, params}`, its body what the application reads. A response has no head; its body is what the
//! application writes, HTTP headers first; its tail is `{appStatus, protocolStatus, stderr}`.
//!
//! Invariants: what is held is bounded: parameters, what goes to stderr, and open requests.
//!
//! Not done here: the filter role's second stream (its records are passed over), parsing of HTTP headers.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{Item, Requests, Responses};
pub use encode::{encode_request, encode_response};

const PROTOCOL: &str = "FastCGI";

/// LIMIT: bytes of all parameters of a request. Servers keep them below some 64 KiB.
const PARAMS_BYTES_MAX: usize = 1024 * 1024;
/// LIMIT: bytes that are kept of what an application says to stderr; more is cut off.
const STDERR_BYTES_MAX: usize = 64 * 1024;
/// LIMIT: requests of a connection at a time.
const REQUESTS_MAX: usize = 1024;

const HEADER_BYTES: usize = 8;
/// What a record can carry, in whole eights.
const CONTENT_BYTES_MAX: usize = 65528;

const BEGIN_REQUEST: u8 = 1;
const ABORT_REQUEST: u8 = 2;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;
const DATA: u8 = 8;
const GET_VALUES: u8 = 9;
const GET_VALUES_RESULT: u8 = 10;
const UNKNOWN_TYPE: u8 = 11;
