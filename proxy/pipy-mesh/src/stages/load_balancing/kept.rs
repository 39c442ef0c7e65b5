//! A request, kept so that it can be sent again, or sent at all when its turn comes.
//!
//! The head is here while no connection has it. Of the body, references to the pieces that have passed are kept, up to a
//! bound: a request whose body is longer is not sent a second time. INVARIANT: pieces come out in the order in which they
//! went in, each once per try.

use bytes::Bytes;
use pipy_filters::Lease;
use pipy_http::{BodyLength, Headers, RequestHead};
use pipy_pipeline::{Cx, Event, Head};

/// LIMIT: bytes of a body that are kept. Envoy keeps as much as a buffer of the connection holds, 1 MiB; what is retried in
/// practice is small, and this is paid for every request under way.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// See the module.
pub(super) struct Kept {
    pub(super) head: Option<Box<RequestHead>>,
    pub(super) length: BodyLength,
    pieces: Vec<Bytes>,
    bytes: usize,
    /// The end of the message has come, with these trailers.
    end: Option<Option<Box<Headers>>>,
    /// A piece has passed that was not kept.
    lost: bool,
    /// Requests that make tunnels of their connection are never sent twice; only what has not been sent goes elsewhere.
    tunnel: bool,
}

impl Kept {
    pub(super) fn new(head: Box<RequestHead>, length: BodyLength) -> Self {
        let tunnel = head.is_upgrade() || head.method == pipy_http::Method::Connect;
        Kept { head: Some(head), length, pieces: Vec::new(), bytes: 0, end: None, lost: false, tunnel }
    }

    /// Whether all of it is here but, maybe, the head; `untouched`: nobody has seen any of it yet.
    pub(super) fn is_whole(&self, untouched: bool) -> bool {
        !self.lost && (untouched || !self.tunnel)
    }

    /// Whether this answer makes the tunnel that it asks for.
    pub(super) fn opens_tunnel(&self, status: u16) -> bool {
        self.tunnel && (status == 101 || status / 100 == 2)
    }

    /// Whether it is complete.
    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether so much is kept that the client should wait.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= KEPT_BYTES_MAX
    }

    /// Nothing will be sent again.
    pub(super) fn forget(&mut self) {
        self.lost |= self.bytes > 0;
        (self.pieces, self.bytes) = (Vec::new(), 0);
    }

    /// Notes what passes; `sent`: it has gone to an endpoint, so that it need not be kept.
    pub(super) fn note(&mut self, event: &Event, sent: bool) {
        match event {
            Event::Data(data) if !self.lost => {
                if sent && self.bytes + data.len() > KEPT_BYTES_MAX {
                    self.lost = true;
                    return self.forget();
                }
                self.bytes += data.len();
                self.pieces.push(data.clone());
            }
            Event::Data(data) => self.lost |= !data.is_empty(),
            Event::End(trailers) => self.end = Some(trailers.clone()),
            _ => {}
        }
    }

    /// Sends all of it that is there.
    pub(super) fn send(&self, cx: &mut Cx<'_>, lease: &Lease, head: Box<RequestHead>) {
        lease.send(cx, Event::Start(Head::Request(head), self.length));
        for piece in &self.pieces {
            lease.send(cx, Event::Data(piece.clone()));
        }
        if let Some(trailers) = &self.end {
            lease.send(cx, Event::End(trailers.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pipy_http::{BodyLength, Method, RequestHead};
    use pipy_pipeline::Event;

    use super::{KEPT_BYTES_MAX, Kept};

    fn kept() -> Kept {
        let head = RequestHead::new(Method::Post, "/");
        Kept::new(Box::new(head), BodyLength::Chunked)
    }

    #[test]
    fn a_short_body_can_be_sent_again_and_a_long_one_cannot() {
        let mut kept = kept();
        for _ in 0..KEPT_BYTES_MAX / 1024 {
            kept.note(&Event::Data(Bytes::from(vec![0; 1024])), true);
            assert!(kept.is_whole(false));
        }
        kept.note(&Event::Data(Bytes::from_static(b"x")), true);
        assert!(!kept.is_whole(false));
        kept.note(&Event::End(None), true);
        assert!(kept.has_ended() && !kept.is_whole(false));
    }

    #[test]
    fn while_nothing_was_sent_nothing_is_lost() {
        let mut kept = kept();
        for _ in 0..3 {
            kept.note(&Event::Data(Bytes::from(vec![0; KEPT_BYTES_MAX])), false);
        }
        assert!(kept.is_whole(false) && kept.is_full());
    }

    #[test]
    fn a_body_that_was_forgotten_is_not_whole_and_none_is() {
        let mut empty = kept();
        empty.note(&Event::End(None), true);
        empty.forget();
        assert!(empty.is_whole(false));
        let mut kept = kept();
        kept.note(&Event::Data(Bytes::from_static(b"x")), true);
        kept.forget();
        assert!(!kept.is_whole(false));
    }

    #[test]
    fn a_tunnel_is_asked_for_once_unless_nobody_has_heard_it() {
        let mut kept = Kept::new(Box::new(RequestHead::new(Method::Connect, "a:1")), BodyLength::None);
        kept.note(&Event::End(None), true);
        assert!(kept.is_whole(true) && !kept.is_whole(false));
    }
}
