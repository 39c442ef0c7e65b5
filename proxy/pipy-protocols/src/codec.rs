//! What every streaming codec is: a [`Decoder`] from bytes to events, an [`Encoder`] back.
//!
//! ```text
//!   bytes ──► Decoder::push ──► Start · Data* · End ──► Encoder::push ──► bytes
//! ```
//!
//! Invariants: whatever the cuts between two pushes, the events are the same, but for how a body's bytes
//! are divided among several `Data`. A message's events are always Start, any number of Data, End. What a
//! decoder holds back is bounded by the limits of its codec.

use bytes::Bytes;

use crate::{Error, Value};

/// A piece of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A message starts: `MessageStart`, with its head.
    Start(Value),
    /// A part of its body: `Data`. Never empty when it comes from a decoder.
    Data(Bytes),
    /// The message has ended: `MessageEnd`.
    End {
        /// What comes after the body, where a protocol has such a thing.
        tail: Option<Value>,
        /// The message as a value, where a protocol gives one.
        payload: Option<Value>,
    },
}

impl Event {
    /// The end of a message that has neither tail nor payload.
    pub const END: Self = Self::End { tail: None, payload: None };

    /// The end of a message that is a value.
    #[must_use]
    pub const fn end_with(payload: Value) -> Self {
        Self::End { tail: None, payload: Some(payload) }
    }
}

/// Reads a stream of messages.
pub trait Decoder {
    /// Takes what the peer sent and adds what it means to `events`.
    ///
    /// # Errors
    ///
    /// When the peer broke the protocol or a limit. What `events` got before that is good, and the
    /// decoder is to be dropped.
    fn push(&mut self, data: Bytes, events: &mut Vec<Event>) -> Result<(), Error>;

    /// Takes the end of the stream.
    ///
    /// # Errors
    ///
    /// When the stream ended within a message.
    fn finish(&mut self, events: &mut Vec<Event>) -> Result<(), Error>;
}

/// Writes a stream of messages.
pub trait Encoder {
    /// Takes an event and adds what it looks like on the wire to `output`.
    ///
    /// Data outside a message is ignored, as it is by all filters that look at messages.
    ///
    /// # Errors
    ///
    /// When the protocol cannot say this.
    fn push(&mut self, event: Event, output: &mut Vec<Bytes>) -> Result<(), Error>;
}

/// Gathers the events of one message, for encoders that need all of it before they can write its head.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    open: Option<(Value, Vec<Bytes>, usize)>,
}

/// A message that [`Gather`] put together.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) head: Value,
    pub(crate) body: Vec<Bytes>,
    pub(crate) body_bytes: usize,
    pub(crate) tail: Option<Value>,
    pub(crate) payload: Option<Value>,
}

impl Gather {
    /// Takes an event; gives the message when this was its last.
    ///
    /// LIMIT: `body_bytes_max` guards a script that turns an endless body into one message.
    pub(crate) fn push(
        &mut self,
        protocol: &'static str,
        event: Event,
        body_bytes_max: usize,
    ) -> Result<Option<Whole>, Error> {
        match event {
            Event::Start(head) => {
                self.open = Some((head, Vec::new(), 0));
                Ok(None)
            }
            Event::Data(data) => {
                if let Some((_, body, bytes)) = &mut self.open {
                    if data.len() > body_bytes_max - *bytes {
                        return Err(Error::unencodable(
                            protocol,
                            format!("the body exceeds {body_bytes_max} bytes"),
                        ));
                    }
                    *bytes += data.len();
                    if !data.is_empty() {
                        body.push(data);
                    }
                }
                Ok(None)
            }
            Event::End { tail, payload } => Ok(self.open.take().map(|(head, body, body_bytes)| Whole {
                head,
                body,
                body_bytes,
                tail,
                payload,
            })),
        }
    }
}
