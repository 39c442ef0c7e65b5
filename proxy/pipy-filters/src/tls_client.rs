//! `connectTLS`: plain on the left, encrypted on the right. Bytes that come before the handshake is complete wait for it;
//! they are never sent to a peer that is not who it should be.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pipy_pipeline::{CloseReason, Cx, Event, Filter, TimerId};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, ClientConnection, Error};

use crate::spec::{Layer, Spec};
use crate::tls::TlsStream;

/// Its row of the filter table.
pub(crate) const SPEC: Spec = Spec {
    name: "connectTLS",
    layer: Layer::Connection,
    help: "begins TLS: plain bytes on the left, encrypted bytes on the right",
};

/// LIMIT: plain bytes held back for the handshake above which the producing side is paused.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// Told what the server has agreed to speak, and its certificate (DER); says whether it is to be believed.
pub type Believes = Box<dyn FnOnce(Option<&[u8]>, Option<&[u8]>) -> bool>;

/// See the module.
pub struct TlsClient {
    tls: TlsStream,
    /// From the first byte of ours to the last of the handshake, and the connection attempt before it.
    timeout: Duration,
    timer: Option<TimerId>,
    deferred: bool,
    established: bool,
    failed: bool,
    /// The producing side has finished before the handshake has; what it said is still to be sent.
    finishing: bool,
    /// The server must agree on a protocol, for nothing else will be spoken.
    must_agree: bool,
    peer_finished: bool,
    /// Set when the server has agreed on no protocol.
    disagreed: Option<Rc<Cell<bool>>>,
    /// Asked when the handshake is complete whether the server is to be believed.
    believes: Option<Believes>,
    /// Plain bytes that wait for the handshake.
    held: usize,
    /// The socket can't take more.
    congested: bool,
    /// The producing side was told to pause.
    pausing: bool,
}

impl TlsClient {
    /// A client with these settings, which also say who the peer must be. `timeout` limits how long it may take from now
    /// until the handshake is complete; zero means no limit. Settings with ALPN make it fail where the server agrees on
    /// none.
    ///
    /// # Errors
    /// When the settings can't be used.
    pub fn new(
        config: Arc<ClientConfig>,
        peer: ServerName<'static>,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let must_agree = !config.alpn_protocols.is_empty();
        let mut tls = TlsStream::new(ClientConnection::new(config, peer)?);
        tls.holds = must_agree;
        Ok(TlsClient {
            must_agree,
            tls,
            timeout,
            timer: None,
            deferred: false,
            established: false,
            failed: false,
            finishing: false,
            peer_finished: false,
            disagreed: None,
            believes: None,
            held: 0,
            congested: false,
            pausing: false,
        })
    }

    /// Asks when the handshake is complete, before anything is sent or given on, whether the server is to be believed.
    #[must_use]
    pub fn asking(mut self, believes: Believes) -> Self {
        self.tls.holds = true;
        self.believes = Some(believes);
        self
    }

    /// Sets a flag when the server agrees on no protocol, for whoever can do with another.
    #[must_use]
    pub fn telling_disagreement(mut self, flag: Rc<Cell<bool>>) -> Self {
        self.disagreed = Some(flag);
        self
    }

    /// The producing side pauses while the socket is full or the handshake holds back too much.
    fn pause_or_resume(&mut self, cx: &mut Cx<'_>) {
        let pause = self.congested || self.held > HELD_BYTES_MAX;
        if pause != self.pausing {
            self.pausing = pause;
            cx.back(if pause { Event::Pause } else { Event::Resume });
        }
    }

    /// After each step of the handshake.
    fn progress(&mut self, cx: &mut Cx<'_>) {
        if self.established || self.tls.handshaking() {
            return;
        }
        self.established = true;
        if self.must_agree && self.tls.agreed().is_none() {
            self.tls.drop_gathered();
            return self.fail(cx, &Error::NoApplicationProtocol);
        }
        if let Some(timer) = self.timer.take() {
            cx.cancel(timer);
        }
        if let Some(believes) = self.believes.take() {
            let certificate = self.tls.peer_certificate().map(AsRef::as_ref);
            if !believes(self.tls.agreed(), certificate) {
                self.tls.drop_gathered();
                let refused = CertificateError::ApplicationVerificationFailure;
                return self.fail(cx, &Error::InvalidCertificate(refused));
            }
        }
        self.held = 0;
        self.pause_or_resume(cx);
        if self.finishing {
            self.finish(cx);
        }
    }

    fn finish(&mut self, cx: &mut Cx<'_>) {
        self.tls.finish();
        if let Some(records) = self.tls.records() {
            cx.forward(Event::Data(records));
        }
        cx.forward(Event::Close(CloseReason::Finished));
    }

    fn defer(&mut self, cx: &mut Cx<'_>) {
        if !self.deferred {
            self.deferred = true;
            cx.defer();
        }
    }

    fn fail(&mut self, cx: &mut Cx<'_>, error: &Error) {
        self.failed = true;
        // The server may be the one to find that out.
        let alert = Error::AlertReceived(AlertDescription::NoApplicationProtocol);
        if self.must_agree && (*error == Error::NoApplicationProtocol || *error == alert) {
            self.disagreed.iter().for_each(|flag| flag.set(true));
        }
        if let Some(alert) = self.tls.records() {
            cx.forward(Event::Data(alert));
        }
        let reason = match error {
            Error::InvalidCertificate(CertificateError::NotValidForName) => CloseReason::WrongPeer,
            _ => CloseReason::TlsFailed,
        };
        cx.back(Event::Close(reason));
    }
}

impl Filter for TlsClient {
    fn name(&self) -> &'static str {
        SPEC.name
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        self.defer(cx);
        if !self.timeout.is_zero() {
            self.timer = Some(cx.timer(self.timeout, 0));
        }
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Data(_) if self.failed => {}
            Event::Data(plain) => {
                if self.tls.handshaking() {
                    self.held += plain.len();
                    self.pause_or_resume(cx);
                }
                self.tls.gather(plain);
                self.defer(cx);
            }
            // WHY not at once: the socket would be shut before the last of the handshake, and with it all that was said.
            Event::Close(CloseReason::Finished) if !self.failed && self.tls.handshaking() => {
                self.finishing = true;
            }
            Event::Close(CloseReason::Finished) if !self.failed => self.finish(cx),
            other => cx.forward(other),
        }
    }

    fn output(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Data(_) if self.failed => {}
            Event::Data(records) => {
                let mut plain = Vec::new();
                let result = self.tls.decrypt(&records, |bytes| plain.push(bytes));
                if result.is_ok() && self.believes.is_some() {
                    self.progress(cx);
                    if self.failed {
                        return;
                    }
                }
                for bytes in plain {
                    cx.back(Event::Data(bytes));
                }
                match result {
                    Err(error) => self.fail(cx, &error),
                    Ok(()) => {
                        self.defer(cx);
                        self.progress(cx);
                        if self.tls.peer_finished && !self.peer_finished {
                            self.peer_finished = true;
                            cx.back(Event::Close(CloseReason::Finished));
                        }
                    }
                }
            }
            Event::Close(CloseReason::Finished) => {
                if !self.tls.peer_finished && !self.failed {
                    let handshaking = self.tls.handshaking();
                    cx.back(Event::Close(if handshaking {
                        CloseReason::TlsFailed
                    } else {
                        CloseReason::Reset
                    }));
                }
            }
            Event::Pause | Event::Resume => {
                self.congested = matches!(event, Event::Pause);
                self.pause_or_resume(cx);
            }
            other => cx.back(other),
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _token: u32) {
        if self.tls.handshaking() && !self.failed {
            self.failed = true;
            cx.back(Event::Close(CloseReason::ConnectTimeout));
        }
    }

    fn flush(&mut self, cx: &mut Cx<'_>) {
        self.deferred = false;
        if let Some(records) = self.tls.records() {
            cx.forward(Event::Data(records));
        }
    }
}
