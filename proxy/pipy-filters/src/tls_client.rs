//! `connectTLS`: plain on the left, encrypted on the right. Bytes that come before the handshake is complete wait for it;
//! they are never sent to a peer that is not who it should be.

use std::sync::Arc;

use pipy_pipeline::{CloseReason, Cx, Event, Filter};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection, Error};

use crate::spec::{Layer, Spec};
use crate::tls::TlsStream;

/// Its row of the filter table.
pub(crate) const SPEC: Spec = Spec {
    name: "connectTLS",
    layer: Layer::Connection,
    help: "begins TLS: plain bytes on the left, encrypted bytes on the right",
};

/// See the module.
pub struct TlsClient {
    tls: TlsStream,
    deferred: bool,
    failed: bool,
}

impl TlsClient {
    /// A client with these settings, which also say who the peer must be.
    ///
    /// # Errors
    /// When the settings can't be used.
    pub fn new(config: Arc<ClientConfig>, peer: ServerName<'static>) -> Result<Self, Error> {
        let tls = TlsStream::new(ClientConnection::new(config, peer)?);
        Ok(TlsClient { tls, deferred: false, failed: false })
    }

    fn defer(&mut self, cx: &mut Cx<'_>) {
        if !self.deferred {
            self.deferred = true;
            cx.defer();
        }
    }

    fn fail(&mut self, cx: &mut Cx<'_>, error: &Error) {
        self.failed = true;
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
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Data(_) if self.failed => {}
            Event::Data(plain) => {
                self.tls.gather(plain);
                self.defer(cx);
            }
            Event::Close(CloseReason::Finished) if !self.failed => {
                self.tls.finish();
                if let Some(records) = self.tls.records() {
                    cx.forward(Event::Data(records));
                }
                cx.forward(Event::Close(CloseReason::Finished));
            }
            other => cx.forward(other),
        }
    }

    fn output(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Data(_) if self.failed => {}
            Event::Data(records) => {
                let mut plain = Vec::new();
                let result = self.tls.decrypt(&records, |bytes| plain.push(bytes));
                for bytes in plain {
                    cx.back(Event::Data(bytes));
                }
                match result {
                    Err(error) => self.fail(cx, &error),
                    Ok(()) => {
                        self.defer(cx);
                        if self.tls.peer_finished {
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
            other => cx.back(other),
        }
    }

    fn flush(&mut self, cx: &mut Cx<'_>) {
        self.deferred = false;
        if let Some(records) = self.tls.records() {
            cx.forward(Event::Data(records));
        }
    }
}
