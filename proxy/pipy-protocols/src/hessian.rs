//! Hessian 2.0, the serialization of most Dubbo messages.
//!
//! A body is a row of values; [`decode`] gives them as an array, and [`encode`] writes such an array as a
//! row. Strings, numbers, booleans, null, dates and binaries are what they are in JavaScript. Others:
//!
//! | Hessian | value |
//! |---|---|
//! | list | an array; a typed one `{kind: 'list', type, elements: [...]}` |
//! | map | `{kind: 'map', type, elements: [[key, value]...]}`, or a plain object with [`Options::plain_maps`] |
//! | object | `{kind: 'object', type, elements: {field: value}}` |
//!
//! A plain object or a `Map` is written as a map. Whole numbers are written as int where they fit and as
//! long where not; readers in Java take either.
//!
//! Invariants: what is shared is copied, within the limit of elements, so that a few bytes of references
//! cannot grow to gigabytes; what refers to itself is refused.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::decode;
pub use encode::encode;

const PROTOCOL: &str = "Hessian";

/// LIMIT: values within each other; what Java programs send stays below twenty. Guards the stack.
const DEPTH_MAX: usize = 64;
/// LIMIT: values of one body, copies of what is referred to included. At most some 100 MB.
const VALUES_MAX: usize = 1024 * 1024;

/// How maps are to be read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Untyped maps whose keys are all strings become plain objects, as scripts of older releases expect.
    pub plain_maps: bool,
}
