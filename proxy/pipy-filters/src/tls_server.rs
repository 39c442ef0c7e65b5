//! `acceptTLS`: encrypted on the left, plain on the right. Nothing passes to the right before the handshake is complete
//! and the client's identity is known.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pipy_pipeline::{CloseReason, Cx, Event, Filter};
use pipy_tls::{certificate_names, spiffe_id};
use rustls::{CertificateError, Error, ServerConfig, ServerConnection};

use crate::http_server::HttpVersion;
use crate::spec::{Layer, Spec};
use crate::tls::TlsStream;

/// Its row of the filter table.
pub(crate) const SPEC: Spec = Spec {
    name: "acceptTLS",
    layer: Layer::Connection,
    help: "ends TLS: encrypted bytes on the left, plain bytes on the right",
};

/// Who is at the other end, once TLS has shown it.
#[derive(Debug, Default)]
pub struct Peer {
    identity: OnceCell<String>,
    names: OnceCell<Vec<String>>,
    names_wanted: Cell<bool>,
    certificate: OnceCell<Vec<u8>>,
    certificate_wanted: Cell<bool>,
    agreed: OnceCell<HttpVersion>,
    server_name: OnceCell<String>,
}

impl Peer {
    /// The SPIFFE identity that the peer has proved.
    pub fn identity(&self) -> Option<&str> {
        self.identity.get().map(String::as_str)
    }

    /// The version of HTTP that both sides agreed on when TLS began.
    pub fn agreed(&self) -> Option<HttpVersion> {
        self.agreed.get().copied()
    }

    /// The server name that the client asked for, lower case.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.get().map(String::as_str)
    }

    /// Every name in the peer's certificate, where [`Peer::want_names`] was called before the handshake.
    pub fn names(&self) -> &[String] {
        self.names.get().map_or(&[], Vec::as_slice)
    }

    /// Asks for the certificate's names. Most connections are decided by the identity alone and spare the reading.
    pub fn want_names(&self) {
        self.names_wanted.set(true);
    }

    /// The peer's certificate (DER), where [`Peer::want_certificate`] was called before the handshake.
    pub fn certificate(&self) -> Option<&[u8]> {
        self.certificate.get().map(Vec::as_slice)
    }

    /// Asks for the certificate itself.
    pub fn want_certificate(&self) {
        self.certificate_wanted.set(true);
    }

    /// States the identity; the first statement holds.
    pub fn prove(&self, identity: String) {
        let _ = self.identity.set(identity);
    }
}

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// The client has shown a certificate of the mesh.
    Complete,
    /// It did not speak TLS at all.
    NotTls,
    /// It showed no certificate.
    NoCertificate,
    /// Its certificate is no longer valid.
    Expired,
    /// Its certificate is not valid yet: one of the two clocks is wrong.
    NotYetValid,
    /// Its certificate is signed by nobody that we believe.
    UnknownIssuer,
    /// It could not agree with us or prove who it is, for another reason.
    Failed,
    /// It took too long.
    TimedOut,
    /// Said after [`Handshake::Complete`]: what came then was nothing that the client of before could have sent.
    Broken,
}

/// See the module.
pub struct TlsServer {
    tls: Option<TlsStream>,
    peer: Rc<Peer>,
    handshake_timeout: Duration,
    seen: bool,
    established: bool,
    finished: bool,
    deferred: bool,
    ended: Box<dyn Fn(Handshake)>,
}

impl TlsServer {
    /// A server with these settings; `ended` hears how the handshake ended, `peer` learns the client's identity.
    ///
    /// # Errors
    /// When the settings can't be used.
    pub fn new(
        config: Arc<ServerConfig>,
        peer: Rc<Peer>,
        handshake_timeout: Duration,
        ended: Box<dyn Fn(Handshake)>,
    ) -> Result<Self, rustls::Error> {
        let tls = Some(TlsStream::new(ServerConnection::new(config)?));
        Ok(TlsServer {
            tls,
            peer,
            handshake_timeout,
            seen: false,
            established: false,
            finished: false,
            deferred: false,
            ended,
        })
    }

    fn defer(&mut self, cx: &mut Cx<'_>) {
        if !self.deferred {
            self.deferred = true;
            cx.defer();
        }
    }

    fn decrypt(&mut self, cx: &mut Cx<'_>, records: &[u8]) {
        // WHY: a plain-text client gets a reset, as from a port that does not know it; an alert would be noise to it.
        if !self.seen && records.first().is_some_and(|first| *first != HANDSHAKE_RECORD) {
            return self.fail(cx, Handshake::NotTls);
        }
        self.seen = true;
        let Some(tls) = &mut self.tls else { return };
        let mut plain = Vec::new();
        let result = tls.decrypt(records, |bytes| plain.push(bytes));
        let finished = tls.peer_finished;
        if result.is_ok() && !self.established && !tls.handshaking() {
            self.established = true;
            if let Some(identity) = tls.peer_certificate().and_then(spiffe_id) {
                self.peer.prove(identity);
            }
            if let Some(name) = tls.server_name() {
                let _ = self.peer.server_name.set(name.to_ascii_lowercase());
            }
            let version = match tls.agreed() {
                Some(b"h2") => Some(HttpVersion::Http2),
                Some(b"http/1.1") => Some(HttpVersion::Http1),
                _ => None,
            };
            if let Some(version) = version {
                let _ = self.peer.agreed.set(version);
            }
            if self.peer.names_wanted.get()
                && let Some(certificate) = tls.peer_certificate()
            {
                let _ = self.peer.names.set(certificate_names(certificate));
            }
            if self.peer.certificate_wanted.get()
                && let Some(certificate) = tls.peer_certificate()
            {
                let _ = self.peer.certificate.set(certificate.to_vec());
            }
            (self.ended)(Handshake::Complete);
            // Tells the right that the peer is known, for a server that speaks first hears no data before.
            cx.forward(Event::Data(bytes::Bytes::new()));
        }
        for bytes in plain {
            cx.forward(Event::Data(bytes));
        }
        match result {
            Err(error) => self.fail(cx, reason(&error)),
            Ok(()) => {
                self.defer(cx);
                if finished && !self.finished {
                    self.finished = true;
                    cx.forward(Event::Close(CloseReason::Finished));
                }
            }
        }
    }

    fn fail(&mut self, cx: &mut Cx<'_>, how: Handshake) {
        let Some(mut tls) = self.tls.take() else { return };
        (self.ended)(if self.established { Handshake::Broken } else { how });
        if !matches!(how, Handshake::NotTls | Handshake::TimedOut) {
            // The alert says why; the end of the stream follows it, for a reset could overtake it.
            if let Some(alert) = tls.records() {
                cx.back(Event::Data(alert));
            }
            cx.back(Event::Close(CloseReason::Finished));
            cx.timer(LINGER, TIMER_LINGER);
        } else {
            cx.back(Event::Close(CloseReason::TlsFailed));
        }
        cx.forward(Event::Close(CloseReason::TlsFailed));
    }
}

/// Whose fault a failed handshake is, as far as the client's certificate tells.
fn reason(error: &Error) -> Handshake {
    match error {
        Error::NoCertificatesPresented => Handshake::NoCertificate,
        Error::InvalidCertificate(fault) => match fault {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Handshake::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Handshake::NotYetValid
            }
            CertificateError::UnknownIssuer => Handshake::UnknownIssuer,
            _ => Handshake::Failed,
        },
        _ => Handshake::Failed,
    }
}

/// First byte of a TLS handshake (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// LIMIT: how long a client may take to close after an alert.
const LINGER: Duration = Duration::from_secs(1);

const TIMER_HANDSHAKE: u32 = 0;
const TIMER_LINGER: u32 = 1;

impl Filter for TlsServer {
    fn name(&self) -> &'static str {
        SPEC.name
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        if !self.handshake_timeout.is_zero() {
            cx.timer(self.handshake_timeout, TIMER_HANDSHAKE);
        }
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Data(records) => self.decrypt(cx, &records),
            Event::Close(CloseReason::Finished) => match &self.tls {
                Some(tls) if tls.peer_finished => {}
                // The stream was cut without a word: what came may not be all there was (RFC 8446 section 6.1).
                Some(_) if self.established => cx.forward(Event::Close(CloseReason::Reset)),
                Some(_) => self.fail(cx, Handshake::NotTls),
                None => {}
            },
            other => cx.forward(other),
        }
    }

    fn output(&mut self, cx: &mut Cx<'_>, event: Event) {
        match (event, &mut self.tls) {
            (Event::Data(plain), Some(tls)) => {
                tls.gather(plain);
                self.defer(cx);
            }
            // What ends the connection after a failure is the failure: an alert may still be under way.
            (Event::Data(_) | Event::Close(_), None) => {}
            (Event::Close(reason), Some(tls)) => {
                if reason.is_clean() {
                    tls.finish();
                    if let Some(records) = tls.records() {
                        cx.back(Event::Data(records));
                    }
                }
                cx.back(Event::Close(reason));
            }
            (other, _) => cx.back(other),
        }
    }

    fn flush(&mut self, cx: &mut Cx<'_>) {
        self.deferred = false;
        if let Some(records) = self.tls.as_mut().and_then(TlsStream::records) {
            cx.back(Event::Data(records));
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, token: u32) {
        match token {
            TIMER_HANDSHAKE if !self.established => self.fail(cx, Handshake::TimedOut),
            TIMER_LINGER => cx.back(Event::Close(CloseReason::IdleTimeout)),
            _ => {}
        }
    }
}
