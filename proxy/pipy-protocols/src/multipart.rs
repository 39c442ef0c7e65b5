//! Bodies of many parts (RFC 2046 §5.1): forms with files, mostly.
//!
//! Each part is a message: its head is `{headers}`, names in lower case, and its body passes as it arrives.
//! What stands before the first part and after the last is dropped.
//!
//! Invariants: a delimiter is found wherever it is cut; what is held back is less than a delimiter, or a
//! part's headers.
//!
//! Not done here: contents of `content-disposition`, transfer encodings, parts within parts.

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memmem;

use crate::input::Input;
use crate::{Error, Event, Object, Value};

const PROTOCOL: &str = "multipart";

/// LIMIT: bytes of a part's headers. Long file names are below 1 KiB.
const HEADERS_BYTES_MAX: usize = 16 * 1024;
/// LIMIT: parts of a body; a form that has more is no form.
const PARTS_MAX: usize = 10_000;
/// RFC 2046 §5.1.1.
const BOUNDARY_BYTES_MAX: usize = 70;

/// The boundary that a `content-type` names, when that is of many parts.
#[must_use]
pub fn boundary_of(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().get(..10)?.eq_ignore_ascii_case("multipart/") {
        return None;
    }
    let mut rest = parameters;
    loop {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(';').unwrap_or(after.len())),
        };
        if name.trim_matches([' ', '\t', ';']).eq_ignore_ascii_case("boundary") {
            let value = value.trim_end();
            return (1..=BOUNDARY_BYTES_MAX).contains(&value.len()).then(|| value.to_owned());
        }
        rest = after;
    }
}

#[derive(Debug, PartialEq)]
enum State {
    /// Before the first delimiter, which may stand at the very start.
    Preamble,
    /// After a delimiter: a line end, or `--` when it was the last.
    Delimiter,
    Headers,
    /// After the headers, until it is clear whether there is a body.
    BodyStart,
    Body,
    Epilogue,
}

/// Reads one body.
#[derive(Debug)]
pub struct Decoder {
    input: Input,
    /// `\r\n--boundary`.
    delimiter: Vec<u8>,
    state: State,
    parts: usize,
}

impl Decoder {
    /// A decoder of a body whose parts are divided by `boundary`.
    #[must_use]
    pub fn new(boundary: &str) -> Self {
        let mut input = Input::new();
        // A delimiter starts with a line end, and the first may lack it: so there is one.
        input.push(Bytes::from_static(b"\r\n"));
        Self { input, delimiter: format!("\r\n--{boundary}").into_bytes(), state: State::Preamble, parts: 0 }
    }

    fn malformed(&self, reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
        Error::malformed(PROTOCOL, self.input.position().saturating_sub(2), reason)
    }

    fn too_large(&self, what: &'static str, max: usize) -> Error {
        let position = self.input.position().saturating_sub(2);
        Error::TooLarge { protocol: PROTOCOL, position, what, max: max as u64 }
    }

    /// How much of what waits is certainly before a delimiter, and whether one follows.
    fn find(&self) -> (usize, bool) {
        let bytes = self.input.peek();
        if let Some(at) = memmem::find(bytes, &self.delimiter) {
            return (at, true);
        }
        // A delimiter may have begun: hold back the longest end that is a start of it.
        let longest = (self.delimiter.len() - 1).min(bytes.len());
        let held = (1..=longest)
            .rev()
            .find(|length| bytes.get(bytes.len() - length..) == self.delimiter.get(..*length));
        (bytes.len() - held.unwrap_or(0), false)
    }

    fn headers(&mut self) -> Result<Option<Value>, Error> {
        let bytes = self.input.peek();
        // No header at all: the empty line comes at once.
        let (length, size) = if bytes.starts_with(b"\r\n") {
            (0, 2)
        } else {
            match memmem::find(bytes, b"\r\n\r\n") {
                Some(at) => (at, at + 4),
                None if bytes.len() > HEADERS_BYTES_MAX => {
                    return Err(self.too_large("headers in bytes", HEADERS_BYTES_MAX));
                }
                None => return Ok(None),
            }
        };
        if length > HEADERS_BYTES_MAX {
            return Err(self.too_large("headers in bytes", HEADERS_BYTES_MAX));
        }
        let Ok(text) = std::str::from_utf8(bytes.get(..length).unwrap_or_default()) else {
            return Err(self.malformed("headers are not UTF-8"));
        };
        let mut pairs: Vec<(String, Value)> = Vec::new();
        for line in text.split("\r\n").filter(|line| !line.is_empty()) {
            // RFC 5322 §2.2.3: a line that starts with a blank continues the one before.
            if let (true, Some((_, Value::String(value)))) = (line.starts_with([' ', '\t']), pairs.last_mut())
            {
                value.push(' ');
                value.push_str(line.trim());
                continue;
            }
            let Some((name, value)) = line.split_once(':').filter(|(name, _)| {
                !name.is_empty() && name.bytes().all(|byte| (b'!'..=b'~').contains(&byte))
            }) else {
                return Err(self.malformed("a header is not `name: value`"));
            };
            pairs.push((name.to_ascii_lowercase(), value.trim().into()));
        }
        self.input.skip(size);
        Ok(Some(Object::new().with("headers", Object::from_pairs(pairs)).into()))
    }
}

impl crate::Decoder for Decoder {
    fn push(&mut self, data: Bytes, events: &mut Vec<Event>) -> Result<(), Error> {
        self.input.push(data);
        loop {
            match self.state {
                State::Preamble | State::Body => {
                    let (before, found) = self.find();
                    let data = self.input.take(before);
                    if self.state == State::Body && !data.is_empty() {
                        events.push(Event::Data(data));
                    }
                    if !found {
                        return Ok(());
                    }
                    self.input.skip(self.delimiter.len());
                    if self.state == State::Body {
                        events.push(Event::END);
                    }
                    self.state = State::Delimiter;
                }
                State::Delimiter => {
                    let bytes = self.input.peek();
                    // RFC 2046 §5.1.1: blanks may follow a delimiter.
                    let blanks = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
                    match bytes.get(blanks..) {
                        Some([b'-', b'-', ..]) if blanks == 0 => self.state = State::Epilogue,
                        Some([b'\r', b'\n', ..]) => {
                            self.input.skip(blanks + 2);
                            self.parts += 1;
                            if self.parts > PARTS_MAX {
                                return Err(self.too_large("parts", PARTS_MAX));
                            }
                            self.state = State::Headers;
                        }
                        Some([] | [b'\r'] | [b'-']) if blanks < BOUNDARY_BYTES_MAX => return Ok(()),
                        _ => return Err(self.malformed("a delimiter is not followed by a line end")),
                    }
                }
                State::Headers => {
                    let Some(head) = self.headers()? else { return Ok(()) };
                    events.push(Event::Start(head));
                    self.state = State::BodyStart;
                }
                State::BodyStart => {
                    // A body of nothing: its delimiter's line end is the empty line after the headers.
                    let mark = self.delimiter.get(2..).unwrap_or_default();
                    let bytes = self.input.peek();
                    if bytes.starts_with(mark) {
                        self.input.skip(mark.len());
                        events.push(Event::END);
                        self.state = State::Delimiter;
                    } else if mark.starts_with(bytes) {
                        return Ok(());
                    } else {
                        self.state = State::Body;
                    }
                }
                State::Epilogue => {
                    self.input.skip(usize::MAX);
                    return Ok(());
                }
            }
        }
    }

    fn finish(&mut self, _: &mut Vec<Event>) -> Result<(), Error> {
        if self.state == State::Epilogue {
            return Ok(());
        }
        let position = (self.input.position() + self.input.len() as u64).saturating_sub(2);
        Err(Error::Truncated { protocol: PROTOCOL, position })
    }
}

/// Writes one body.
#[derive(Debug)]
pub struct Encoder {
    boundary: String,
    open: bool,
}

impl Encoder {
    /// An encoder that divides parts by `boundary`, which no part may contain.
    ///
    /// # Errors
    ///
    /// When that is no boundary: 1 to 70 letters, digits and some signs (RFC 2046 §5.1.1).
    pub fn new(boundary: &str) -> Result<Self, Error> {
        let may_be = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
        if !(1..=BOUNDARY_BYTES_MAX).contains(&boundary.len()) || !boundary.bytes().all(may_be) {
            return Err(Error::unencodable(PROTOCOL, format!("{boundary:?} is no boundary")));
        }
        Ok(Self { boundary: boundary.to_owned(), open: false })
    }

    /// What comes after the last part.
    pub fn finish(&mut self, output: &mut Vec<Bytes>) {
        output.push(format!("--{}--\r\n", self.boundary).into());
    }
}

impl crate::Encoder for Encoder {
    fn push(&mut self, event: Event, output: &mut Vec<Bytes>) -> Result<(), Error> {
        match event {
            Event::Start(head) => {
                let mut bytes = BytesMut::from(format!("--{}\r\n", self.boundary).as_bytes());
                for (name, value) in
                    head.get("headers").and_then(Value::as_object).into_iter().flat_map(Object::iter)
                {
                    let value = value.as_str().unwrap_or_default();
                    if name.is_empty()
                        || name.contains([':', '\r', '\n', ' '])
                        || value.contains(['\r', '\n'])
                    {
                        return Err(Error::unencodable(
                            PROTOCOL,
                            format!("header {name:?} has a line end or colon"),
                        ));
                    }
                    bytes.put_slice(format!("{name}: {value}\r\n").as_bytes());
                }
                bytes.put_slice(b"\r\n");
                output.push(bytes.freeze());
                self.open = true;
            }
            Event::Data(data) if self.open && !data.is_empty() => output.push(data),
            Event::Data(_) => {}
            Event::End { .. } => {
                if std::mem::take(&mut self.open) {
                    output.push(Bytes::from_static(b"\r\n"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{heads, read, survive};

    const FORM: &[u8] = b"ignored\r\n--AaB03x\r\nContent-Disposition: form-data; name=\"who\"\r\n\r\nLarry\r\n--AaB03x  \r\n\
        Content-Disposition: form-data;\r\n name=\"file\"\r\nContent-Type: text/plain\r\n\r\nline\r\n--AaB03\r\n-- no\r\n--AaB03x\r\n\r\n\r\n--AaB03x\r\n\r\n--AaB03x--\r\nignored";

    #[test]
    fn a_form_is_read_however_it_is_cut() {
        let whole = read(Decoder::new("AaB03x"), &[FORM]).unwrap();
        for cut in 1..40 {
            assert_eq!(
                read(Decoder::new("AaB03x"), &FORM.chunks(cut).collect::<Vec<_>>()).unwrap(),
                whole,
                "{cut}"
            );
        }
        assert_eq!(heads(&whole).len(), 4);
        let headers = heads(&whole)[1].get("headers").unwrap();
        assert_eq!(headers.get("content-disposition"), Some(&"form-data; name=\"file\"".into()));
        assert_eq!(whole[1], Event::Data("Larry".into()));
        assert_eq!(whole[4], Event::Data("line\r\n--AaB03\r\n-- no".into()));
        assert_eq!(whole[6..], [whole[6].clone(), Event::END, whole[6].clone(), Event::END], "empty parts");
    }

    #[test]
    fn boundaries_are_found_in_headers() {
        assert_eq!(boundary_of("multipart/form-data; boundary=abc").as_deref(), Some("abc"));
        assert_eq!(
            boundary_of("Multipart/Mixed; charset=\"a;b\"; BOUNDARY=\"a b\"; x=1").as_deref(),
            Some("a b")
        );
        assert_eq!(boundary_of("text/plain; boundary=abc"), None);
        assert_eq!(boundary_of("multipart/mixed; boundary="), None);
        assert_eq!(boundary_of("multipart/mixed"), None);
    }

    #[test]
    fn what_is_not_a_body_of_parts_is_refused() {
        let fail = |bytes: &[u8]| read(Decoder::new("b"), &[bytes]).unwrap_err().to_string();
        assert!(fail(b"--b\r\nno header\r\n\r\n").contains("name: value"));
        assert!(fail(b"--bx\r\n").contains("line end"));
        assert!(fail(b"--b\r\na: b\r\n\r\nnever ends").contains("ended"));
        assert!(fail(&[b"--b\r\na: ".to_vec(), vec![b'x'; 20_000]].concat()).contains("exceeds"));
        assert!(fail(&b"--b\r\n\r\n".repeat(10_001)).contains("parts exceeds"));
        assert!(Encoder::new("a b").is_err() && Encoder::new("").is_err());
    }

    proptest! {
        #[test]
        fn parts_come_back(parts in prop::collection::vec(prop::collection::vec(prop::sample::select(b"\r\n-abc".to_vec()), 0..60), 1..5), cut in 1..30_usize) {
            let mut encoder = Encoder::new("bbbbb").unwrap();
            let mut events = Vec::new();
            for part in parts.iter().filter(|part| memmem::find(part, b"bbbbb").is_none()) {
                events.push(Event::Start(Object::new().with("headers", Object::new().with("a", "1")).into()));
                if !part.is_empty() {
                    events.push(Event::Data(part.clone().into()));
                }
                events.push(Event::END);
            }
            let mut output = Vec::new();
            for event in events.clone() {
                crate::Encoder::push(&mut encoder, event, &mut output).unwrap();
            }
            encoder.finish(&mut output);
            let bytes = output.concat();
            prop_assert_eq!(read(Decoder::new("bbbbb"), &bytes.chunks(cut).collect::<Vec<_>>()).unwrap(), events);
        }

        #[test]
        fn garbage_is_refused_and_nothing_panics(text in "[-b\r\n: a]{0,200}", cut in 1..20_usize) {
            survive(Decoder::new("b"), text.as_bytes(), cut);
        }
    }
}
