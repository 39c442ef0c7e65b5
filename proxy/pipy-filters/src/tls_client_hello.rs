//! The first message of a TLS client, read without answering it: where a connection is to be carried on unopened, its
//! server name says where to.
//!
//! In: the first bytes of a connection, as many as there are, over any number of records. Out: the server name and the
//! protocols offered, `None` while bytes are missing, or what is wrong. No IO.
//!
//! INVARIANT: what is accepted is what a TLS server would read from the same bytes: lengths must add up exactly, no
//! extension may come twice, and the name is a DNS name in lower case. Anything else is refused, never guessed.
//! Source: RFC 8446 section 4.1.2 (message), 5.1 (records); RFC 6066 section 3 (server name); RFC 7301 (ALPN).

use std::collections::BTreeSet;

use thiserror::Error;

/// LIMIT: bytes of a ClientHello with its record headers. Browsers send up to 2 KiB with post-quantum key shares; a
/// handful of tickets and padding stay below 8.
pub const CLIENT_HELLO_BYTES_MAX: usize = 16 * 1024;

/// LIMIT: bytes in one record (RFC 8446 section 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const HOST_NAME: u8 = 0;

/// What a client says first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// Whom it wants, lower case.
    pub server_name: Option<String>,
    /// What it would speak inside, in its order.
    pub alpn: Vec<Vec<u8>>,
}

/// Why bytes are no ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HelloError {
    /// It does not begin like TLS.
    #[error("the client does not speak TLS")]
    NotTls,
    /// It is longer than [`CLIENT_HELLO_BYTES_MAX`].
    #[error("the ClientHello is longer than {CLIENT_HELLO_BYTES_MAX} bytes")]
    TooLong,
    /// Lengths that do not add up, fields that may not be so.
    #[error("the ClientHello is malformed")]
    Malformed,
    /// An extension comes twice.
    #[error("the ClientHello has an extension twice")]
    Twice,
    /// The server name is none.
    #[error("the server name is not a DNS name")]
    Name,
}

/// Reads a ClientHello; `None` while more bytes are needed.
///
/// # Errors
/// When the bytes can't become one.
pub fn client_hello(bytes: &[u8]) -> Result<Option<ClientHello>, HelloError> {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        if let Some(hello) = whole(&message)? {
            return parse(hello).map(Some);
        }
        let Some(fragment) = record(&mut rest)? else {
            return if bytes.len() >= CLIENT_HELLO_BYTES_MAX { Err(HelloError::TooLong) } else { Ok(None) };
        };
        message.extend_from_slice(fragment);
    }
}

/// The next record's content; `None` while it is not whole.
fn record<'b>(rest: &mut &'b [u8]) -> Result<Option<&'b [u8]>, HelloError> {
    if rest.first().is_some_and(|kind| *kind != HANDSHAKE) || rest.get(1).is_some_and(|major| *major != 3) {
        return Err(HelloError::NotTls);
    }
    let Some((&[_, _, _, high, low], behind)) = rest.split_first_chunk() else { return Ok(None) };
    let size = usize::from(u16::from_be_bytes([high, low]));
    if size == 0 || size > RECORD_BYTES_MAX {
        return Err(HelloError::Malformed);
    }
    let Some((content, behind)) = behind.split_at_checked(size) else { return Ok(None) };
    *rest = behind;
    Ok(Some(content))
}

/// The message's body, once it is whole.
fn whole(message: &[u8]) -> Result<Option<&[u8]>, HelloError> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(HelloError::NotTls);
    }
    let Some((&[_, a, b, c], body)) = message.split_first_chunk() else { return Ok(None) };
    let size = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
    if size > CLIENT_HELLO_BYTES_MAX {
        return Err(HelloError::TooLong);
    }
    match body.len() {
        // A client may not go on before it was answered.
        length if length > size => Err(HelloError::Malformed),
        length if length < size => Ok(None),
        _ => Ok(Some(body)),
    }
}

fn parse(body: &[u8]) -> Result<ClientHello, HelloError> {
    fields(body).ok_or(HelloError::Malformed)?
}

/// `None`: malformed.
fn fields(body: &[u8]) -> Option<Result<ClientHello, HelloError>> {
    let mut reader = Reader(body);
    // Version and random: any, the server judges them.
    reader.take(2 + 32)?;
    let session = reader.vector8()?;
    let suites = reader.vector16()?;
    let compressions = reader.vector8()?;
    if session.0.len() > 32 || suites.0.is_empty() || suites.0.len() % 2 != 0 || compressions.0.is_empty() {
        return None;
    }
    let mut hello = ClientHello::default();
    if reader.0.is_empty() {
        return Some(Ok(hello));
    }
    let mut extensions = reader.vector16()?;
    if !reader.0.is_empty() {
        return None;
    }
    let mut seen = BTreeSet::new();
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let content = extensions.vector16()?;
        if !seen.insert(kind) {
            return Some(Err(HelloError::Twice));
        }
        match kind {
            SERVER_NAME => match server_name(content)? {
                Some(name) => hello.server_name = Some(name),
                None => return Some(Err(HelloError::Name)),
            },
            ALPN => hello.alpn = alpn(content)?,
            _ => {}
        }
    }
    Some(Ok(hello))
}

/// `None`: malformed; `Some(None)`: no DNS name.
fn server_name(mut content: Reader<'_>) -> Option<Option<String>> {
    let mut list = content.vector16()?;
    let kind = list.number8()?;
    let name = list.vector16()?;
    // One name: other kinds were never defined, and two names could be read in two ways.
    if !content.0.is_empty() || !list.0.is_empty() || kind != HOST_NAME {
        return None;
    }
    Some(dns_name(name.0))
}

fn alpn(mut content: Reader<'_>) -> Option<Vec<Vec<u8>>> {
    let mut list = content.vector16()?;
    if !content.0.is_empty() || list.0.is_empty() {
        return None;
    }
    let mut names = Vec::new();
    while !list.0.is_empty() {
        let name = list.vector8()?;
        if name.0.is_empty() {
            return None;
        }
        names.push(name.0.to_vec());
    }
    Some(names)
}

/// A DNS name in lower case, without a dot at its end; not an address (RFC 6066 section 3).
fn dns_name(bytes: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(bytes).ok()?.to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let numeric = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    let plain = name.len() <= 253 && name.split('.').all(label);
    (plain && !name.rsplit('.').next().is_some_and(numeric)).then_some(name)
}

/// Takes bytes off the front.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn vector8(&mut self) -> Option<Reader<'b>> {
        let size = self.number8()?;
        self.take(size.into()).map(Reader)
    }

    fn vector16(&mut self) -> Option<Reader<'b>> {
        let size = self.number16()?;
        self.take(size.into()).map(Reader)
    }
}
