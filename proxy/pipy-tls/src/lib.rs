//! Who we are, whom we believe, and whom we expect: settings for TLS between mesh members.
//!
//! A [`Credentials`] holds a certificate chain with its key and the roots that we believe. From it come the server's
//! settings (a client must show a certificate of the mesh) and, per expected identity, the client's (the server's
//! certificate must carry exactly that SPIFFE identity). Names in DNS play no part: the identity is the URI.
//!
//! INVARIANT: a certificate has exactly one SPIFFE URI, or it names no one (SPIFFE X.509-SVID, section 2).
//!
//! Not here: moving the bytes of a handshake (`pipy-filters`), fetching certificates (`pipy-delivery`).

#![forbid(unsafe_code)]

mod credentials;
mod outside;
mod spiffe;
mod verify;

pub use credentials::{Credentials, TlsError};
pub use outside::outside_client;
pub use spiffe::{certificate_names, spiffe_id};
