//! Traces: what of a request's headers names its place in a trace, and the span that is told to the collector.
//!
//! In: header values (B3, many headers or one; W3C `traceparent`), as foreign as headers are. Out: ids as headers and as
//! Zipkin's JSON (version 2). What can't be read counts as absent.
//!
//! INVARIANT: an id of zero is none; a span is one line. Not here: when a span begins and ends (`pipy-mesh`), how it
//! travels (`export`).
//!
//! Source: openzipkin/b3-propagation; W3C Trace Context, level 1; Zipkin API v2, `POST /spans`.

use crate::log::rest_of_string;

/// Names a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId {
    high: u64,
    low: u64,
}

impl TraceId {
    /// Of random numbers; zero, which is no id, is mended.
    pub fn new(high: u64, low: u64) -> Self {
        TraceId { high, low: low.max(1) }
    }

    /// From 16 or 32 hexadecimal digits.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (high, low) = match text.len() {
            16 => (0, number(text)?),
            32 => (number(&text[..16])?, number(&text[16..])?),
            _ => return None,
        };
        (high | low != 0).then_some(TraceId { high, low })
    }

    /// Whether a share of all traces, per million, has this one in it. Every proxy says the same of one trace.
    pub fn is_in_share(self, per_million: u32) -> bool {
        let place = self.low & (u64::MAX >> 1);
        u128::from(place) * 1_000_000 < u128::from(per_million) << 63
    }

    /// Hexadecimal: 32 digits, or 16 where a client uses short ones.
    pub fn text(self) -> String {
        if self.high == 0 { format!("{:016x}", self.low) } else { self.long_text() }
    }

    fn long_text(self) -> String {
        format!("{:016x}{:016x}", self.high, self.low)
    }
}

/// What a request says of its trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace, and the span that the request belongs to.
    pub ids: Option<(TraceId, u64)>,
    /// The span above that one.
    pub parent: Option<u64>,
    /// Whether it is told to the collector.
    pub sampled: Option<bool>,
    /// It came as B3, by which both ends of a call share one span.
    pub b3: bool,
}

impl TraceContext {
    /// Reads the headers that `get` finds by their lower-case names. B3 counts more than `traceparent`.
    pub fn read<'h>(get: impl Fn(&str) -> Option<&'h [u8]>) -> Self {
        let trace = get("x-b3-traceid").and_then(TraceId::parse);
        let span = get("x-b3-spanid").and_then(span);
        let sampled = match (get("x-b3-flags"), get("x-b3-sampled")) {
            (Some(b"1"), _) => Some(true),
            (_, Some(said)) => flag(said),
            _ => None,
        };
        if let (Some(trace), Some(own)) = (trace, span) {
            let parent = get("x-b3-parentspanid").and_then(self::span);
            return TraceContext { ids: Some((trace, own)), parent, sampled, b3: true };
        }
        let one = get("b3").and_then(one_header).or_else(|| get("traceparent").and_then(traceparent));
        let mut context = one.unwrap_or_default();
        context.sampled = sampled.or(context.sampled);
        context
    }
}

/// `{trace}-{span}[-{sampled}[-{parent}]]`, or the flag alone.
fn one_header(value: &[u8]) -> Option<TraceContext> {
    let mut parts = value.split(|b| *b == b'-');
    let first = parts.next()?;
    if let Some(sampled) = flag(first) {
        return Some(TraceContext { sampled: Some(sampled), ..TraceContext::default() });
    }
    let ids = Some((TraceId::parse(first)?, span(parts.next()?)?));
    let sampled = parts.next().and_then(flag);
    let parent = parts.next().and_then(span);
    Some(TraceContext { ids, parent, sampled, b3: true })
}

/// `00-{trace}-{span}-{flags}`; of later versions the same part is read.
fn traceparent(value: &[u8]) -> Option<TraceContext> {
    let mut parts = value.split(|b| *b == b'-');
    let (version, trace, own, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let known = version.len() == 2 && number(version)? != 0xff && trace.len() == 32 && flags.len() == 2;
    let more = parts.next().is_some();
    if !known || (version == b"00" && more) {
        return None;
    }
    let ids = Some((TraceId::parse(trace)?, span(own)?));
    Some(TraceContext { ids, parent: None, sampled: Some(number(flags)? & 1 == 1), b3: false })
}

fn flag(text: &[u8]) -> Option<bool> {
    match text {
        b"1" | b"d" | b"true" | b"True" => Some(true),
        b"0" | b"false" | b"False" => Some(false),
        _ => None,
    }
}

fn span(text: &[u8]) -> Option<u64> {
    if text.len() == 16 { number(text).filter(|id| *id != 0) } else { None }
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |sum, digit| {
        let value = char::from(*digit).to_digit(16)?;
        Some(sum << 4 | u64::from(value))
    })
}

/// The place of one request in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The trace.
    pub trace: TraceId,
    /// This span.
    pub id: u64,
    /// The one above it.
    pub parent: Option<u64>,
    /// Whether it is told to the collector.
    pub sampled: bool,
    /// The caller's proxy has told its half of the same span.
    pub shared: bool,
}

impl Span {
    /// The span's id, as headers have it.
    pub fn id_text(&self) -> String {
        format!("{:016x}", self.id)
    }

    /// The headers that tell the next one, and those to take away.
    pub fn b3(&self) -> [(&'static str, Option<String>); 4] {
        [
            ("x-b3-traceid", Some(self.trace.text())),
            ("x-b3-spanid", Some(self.id_text())),
            ("x-b3-parentspanid", self.parent.map(|id| format!("{id:016x}"))),
            ("x-b3-sampled", Some(if self.sampled { "1" } else { "0" }.to_owned())),
        ]
    }

    /// The same as one header of the W3C's.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{:016x}-{:02x}", self.trace.long_text(), self.id, u8::from(self.sampled))
    }
}

/// What is told of a span.
#[derive(Debug, Clone, Copy)]
pub struct SpanReport<'a> {
    /// Its place.
    pub span: Span,
    /// The call was made, not served.
    pub client: bool,
    /// What it is called.
    pub name: &'a [u8],
    /// When it began, microseconds since the epoch.
    pub start_unix_us: u64,
    /// How long it took, microseconds.
    pub duration_us: u64,
    /// Whose proxy tells it.
    pub service: &'a str,
    /// That one's address.
    pub address: std::net::IpAddr,
    /// The rest. Empty values are left out.
    pub tags: &'a [(&'a str, &'a [u8])],
}

impl SpanReport<'_> {
    /// Appends it as one line of JSON.
    pub fn write(&self, out: &mut Vec<u8>) {
        let text = |out: &mut Vec<u8>, key: &str, value: &[u8]| {
            out.extend_from_slice(key.as_bytes());
            rest_of_string(value, out);
        };
        text(out, "{\"traceId\":\"", self.span.trace.text().as_bytes());
        text(out, ",\"id\":\"", self.span.id_text().as_bytes());
        if let Some(parent) = self.span.parent {
            text(out, ",\"parentId\":\"", format!("{parent:016x}").as_bytes());
        }
        text(out, ",\"kind\":\"", if self.client { b"CLIENT" } else { b"SERVER" });
        text(out, ",\"name\":\"", self.name);
        for (key, value) in [(",\"timestamp\":", self.start_unix_us), (",\"duration\":", self.duration_us)] {
            out.extend_from_slice(key.as_bytes());
            // The collector takes a zero for an absent one.
            out.extend_from_slice(itoa::Buffer::new().format(value.max(1)).as_bytes());
        }
        if self.span.shared {
            out.extend_from_slice(b",\"shared\":true");
        }
        text(out, ",\"localEndpoint\":{\"serviceName\":\"", self.service.as_bytes());
        let family = if self.address.is_ipv4() { ",\"ipv4\":\"" } else { ",\"ipv6\":\"" };
        text(out, family, self.address.to_string().as_bytes());
        out.extend_from_slice(b",\"port\":0},\"tags\":{");
        let mut separator = "\"";
        for (key, value) in self.tags.iter().filter(|(_, value)| !value.is_empty()) {
            out.extend_from_slice(separator.as_bytes());
            rest_of_string(key.as_bytes(), out);
            text(out, ":\"", value);
            separator = ",\"";
        }
        out.extend_from_slice(b"}}\n");
    }
}

#[cfg(test)]
mod tests;
