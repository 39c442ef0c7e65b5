//! What TLS at either end has in common: records in, plain bytes out, and back.
//!
//! Plain bytes to be sent are gathered until the end of the turn, so that a head and a small body share one record.

use std::collections::VecDeque;
use std::io::{BufRead, IoSlice, Write};

use bytes::Bytes;
use rustls::Connection;

/// LIMIT: pieces given to the TLS library at once. For each record it looks for its place in them from the first on.
const SLICES_MAX: usize = 64;

/// One TLS connection between an encrypted and a plain side.
pub(crate) struct TlsStream {
    connection: Connection,
    gathered: VecDeque<Bytes>,
    /// Nothing is given to the TLS library before the handshake is complete, for it may end in disagreement.
    pub(crate) holds: bool,
    /// The peer said that it has finished.
    pub(crate) peer_finished: bool,
    /// We have said so; what the library would still answer to the peer is not for the socket.
    finished: Finished,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Finished {
    No,
    /// The record that says so waits to be sent.
    Saying,
    Said,
}

impl TlsStream {
    pub(crate) fn new(connection: impl Into<Connection>) -> Self {
        let mut connection = connection.into();
        // The graph's back-pressure bounds what is under way; a limit here would lose bytes.
        connection.set_buffer_limit(None);
        TlsStream {
            connection,
            gathered: VecDeque::new(),
            holds: false,
            peer_finished: false,
            finished: Finished::No,
        }
    }

    pub(crate) fn handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// The protocol that was agreed on.
    pub(crate) fn agreed(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// The server that a client asks for.
    pub(crate) fn server_name(&self) -> Option<&str> {
        match &self.connection {
            Connection::Server(server) => server.server_name(),
            Connection::Client(_) => None,
        }
    }

    pub(crate) fn peer_certificate(&self) -> Option<&rustls::pki_types::CertificateDer<'static>> {
        self.connection.peer_certificates()?.first()
    }

    /// Takes records, gives the plain bytes in them to `plain`.
    pub(crate) fn decrypt(
        &mut self,
        records: &[u8],
        mut plain: impl FnMut(Bytes),
    ) -> Result<(), rustls::Error> {
        let mut rest = records;
        while !rest.is_empty() {
            // Reading from a slice fails only when plain bytes wait that nobody took, and here they are always taken.
            if self.connection.read_tls(&mut rest).is_err() {
                return Err(rustls::Error::General("the TLS buffer is full".into()));
            }
            let state = self.connection.process_new_packets()?;
            self.peer_finished |= state.peer_has_closed();
            let ready = state.plaintext_bytes_to_read();
            if ready > 0 {
                let mut bytes = Vec::with_capacity(ready);
                let mut reader = self.connection.reader();
                while let Ok(chunk) = reader.fill_buf() {
                    if chunk.is_empty() {
                        break;
                    }
                    bytes.extend_from_slice(chunk);
                    let taken = chunk.len();
                    reader.consume(taken);
                }
                plain(Bytes::from(bytes));
            }
        }
        Ok(())
    }

    /// Takes plain bytes to be sent; [`TlsStream::records`] gives the records of them.
    pub(crate) fn gather(&mut self, plain: Bytes) {
        if !plain.is_empty() {
            self.gathered.push_back(plain);
        }
    }

    /// Forgets what was gathered: it is not for this peer.
    pub(crate) fn drop_gathered(&mut self) {
        self.gathered.clear();
    }

    /// Says that we have finished.
    pub(crate) fn finish(&mut self) {
        self.encrypt();
        self.connection.send_close_notify();
        if self.finished == Finished::No {
            self.finished = Finished::Saying;
        }
    }

    /// All records that wait to be sent: of the handshake, alerts, and what was gathered.
    pub(crate) fn records(&mut self) -> Option<Bytes> {
        match self.finished {
            Finished::No => {}
            Finished::Saying => self.finished = Finished::Said,
            Finished::Said => return None,
        }
        self.encrypt();
        if !self.connection.wants_write() {
            return None;
        }
        let mut records = Vec::new();
        while self.connection.wants_write() {
            // Writing to a vector does not fail.
            if self.connection.write_tls(&mut records).is_err() {
                break;
            }
        }
        Some(Bytes::from(records))
    }

    fn encrypt(&mut self) {
        if self.holds && self.connection.is_handshaking() {
            return;
        }
        if let [only] = self.gathered.make_contiguous() {
            let _ = self.connection.writer().write_all(only);
            self.gathered.clear();
            return;
        }
        while !self.gathered.is_empty() {
            // WHY all at once: the library fills one record after the other across pieces, and the header of a frame that
            // has a piece of its own would otherwise push the end of its payload into a record of a few bytes.
            let slices: Vec<IoSlice<'_>> =
                self.gathered.iter().take(SLICES_MAX).map(|bytes| IoSlice::new(bytes)).collect();
            let count = slices.len();
            // Without a limit on the buffer everything is taken.
            let _ = self.connection.writer().write_vectored(&slices);
            self.gathered.drain(..count);
        }
    }
}
