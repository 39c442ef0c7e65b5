//! `decode*` and `encode*` of protocols other than HTTP: bytes become messages, messages become bytes.
//!
//! The codecs are pipy-protocols'; here their values become a script's and back. What cannot be read is a line in the log and
//! the end of the stream with `ProtocolError`. INVARIANT: messages before a broken one have gone on.

use std::rc::Rc;

use pipy_pipeline::{CloseReason, Cx, Event, Filter};
use pipy_protocols as protocols;
use pipy_protocols::{Decoder, Encoder, Event as Piece, Value as Plain};
use rquickjs::{Ctx, Object, Persistent, Result, Value};

use crate::engine::Kept;
use crate::events::{ScriptEvent, custom, script_event};
use crate::layout::{FilterDef, Reading, Scope};
use crate::log;
use crate::objects::value::{from_js, to_js};

struct Codec {
    name: &'static str,
    label: String,
    /// MQTT's level or whether BGP has numbers of four bytes, where the script says so.
    option: Option<Kept>,
}

pub(super) fn make(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let field = match reading.name {
        "decodeMQTT" | "encodeMQTT" => "protocolLevel",
        _ => "enableAS4",
    };
    let mut option = None;
    if let Some(options) = reading.settings(0)? {
        option = options.kept(field)?;
    }
    Ok(Rc::new(CodecDef(Rc::new(Codec { name: reading.name, label: reading.label.clone(), option }))))
}

struct CodecDef(Rc<Codec>);

impl FilterDef for CodecDef {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        let def = Rc::clone(&self.0);
        if self.0.name.starts_with("decode") {
            Box::new(Decoding { def, scope: scope.clone(), reader: None, over: false })
        } else {
            Box::new(Encoding { def, scope: scope.clone(), writer: None, over: false })
        }
    }
}

/// MQTT and BGP are apart: what one direction says changes how the other is read.
enum Reader {
    Bgp(protocols::bgp::Decoder),
    Mqtt(protocols::mqtt::Decoder),
    Other(Box<dyn Decoder>),
}

enum Writer {
    Bgp(protocols::bgp::Encoder),
    Mqtt(protocols::mqtt::Encoder),
    Other(Box<dyn Encoder>),
}

impl Codec {
    fn asked<T>(&self, scope: &Scope, read: impl Fn(&Value<'_>) -> Option<T>) -> Option<T> {
        let option = self.option.clone()?;
        let engine = scope.engine();
        let found = engine.with(|ctx| {
            engine.enter(ctx, &scope.vars)?;
            let mut value = option.restore(ctx)?;
            if let Some(function) = value.as_function() {
                value = function.call(())?;
            }
            Ok(read(&value))
        });
        found.unwrap_or_else(|error| {
            log::line("ERR", &format!("{}: {}: {error}", self.label, self.name));
            None
        })
    }

    fn level(&self, scope: &Scope) -> Option<u8> {
        self.asked(scope, |value| value.as_number().map(|level| level as u8))
            .or_else(|| level_of(scope, None))
    }

    /// Asked each time: peers agree on it while they are connected.
    fn as4(&self, scope: &Scope) -> bool {
        self.asked(scope, |value| Some(value.get::<rquickjs::Coerced<bool>>().is_ok_and(|yes| yes.0)))
            .unwrap_or(false)
    }

    fn reader(&self, scope: &Scope) -> Reader {
        Reader::Other(match self.name {
            "decodeMQTT" => {
                return Reader::Mqtt(match self.level(scope) {
                    Some(level) => protocols::mqtt::Decoder::with_level(level),
                    None => protocols::mqtt::Decoder::new(),
                });
            }
            "decodeRESP" => Box::new(protocols::resp::Decoder::new()),
            "decodeDubbo" => Box::new(protocols::dubbo::Decoder::new()),
            "decodeThrift" => Box::new(protocols::thrift::Decoder::new()),
            "decodeBGP" => return Reader::Bgp(protocols::bgp::Decoder::new(false)),
            "decodeNetlink" => Box::new(protocols::netlink::Decoder::new()),
            _ => Box::new(protocols::websocket::Decoder::new()),
        })
    }

    fn writer(&self, scope: &Scope) -> Writer {
        Writer::Other(match self.name {
            "encodeMQTT" => {
                return Writer::Mqtt(match self.level(scope) {
                    Some(level) => protocols::mqtt::Encoder::with_level(level),
                    None => protocols::mqtt::Encoder::new(),
                });
            }
            "encodeRESP" => Box::new(protocols::resp::Encoder::new()),
            "encodeDubbo" => Box::new(protocols::dubbo::Encoder::new()),
            "encodeThrift" => Box::new(protocols::thrift::Encoder::new()),
            "encodeBGP" => return Writer::Bgp(protocols::bgp::Encoder::new(false)),
            "encodeNetlink" => Box::new(protocols::netlink::Encoder::new()),
            _ => Box::new(protocols::websocket::Encoder::new(mask)),
        })
    }
}

/// What masks a client's frame; it must not be foreseen (RFC 6455 §5.3).
fn mask() -> [u8; 4] {
    let mut bytes = [0; 4];
    // Without random numbers nothing else works either: TLS would have failed long before.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes
}

/// The level of a client's connection: kept beside its `__inbound`, for pipelines of both directions share that.
fn level_of(scope: &Scope, found: Option<u8>) -> Option<u8> {
    let engine = scope.engine();
    let result = engine.with(|ctx| {
        engine.enter(ctx, &scope.vars)?;
        let inbound = engine.inbound(ctx)?;
        let Some(inbound) = inbound.as_object() else { return Ok(found) };
        match found {
            Some(level) => {
                let hidden = rquickjs::object::Property::from(i32::from(level)).writable().configurable();
                inbound.prop("mqttLevel", hidden)?;
                Ok(Some(level))
            }
            None => inbound.get::<_, Option<u8>>("mqttLevel"),
        }
    });
    result.unwrap_or(None)
}

fn is_close(event: &Event) -> bool {
    matches!(event, Event::Close(_)) || matches!(script_event(event), Some(ScriptEvent::Failed(_)))
}

struct Decoding {
    def: Rc<Codec>,
    scope: Scope,
    reader: Option<Reader>,
    over: bool,
}

impl Decoding {
    fn forward(&self, cx: &mut Cx<'_>, pieces: Vec<Piece>) {
        if pieces.is_empty() {
            return;
        }
        let made = self
            .scope
            .engine()
            .with(|ctx| pieces.into_iter().map(|piece| event(ctx, piece)).collect::<Result<Vec<_>>>());
        match made {
            Ok(events) => events.into_iter().for_each(|event| cx.forward(event)),
            Err(error) => log::line("ERR", &format!("{}: {}: {error}", self.def.label, self.def.name)),
        }
    }
}

pub(super) fn event<'js>(ctx: &Ctx<'js>, piece: Piece) -> Result<Event> {
    let kept = |value: Option<Plain>| -> Result<Kept> {
        let value = match value {
            Some(value) => to_js(ctx, &value)?,
            None => Value::new_undefined(ctx.clone()),
        };
        Ok(Persistent::save(ctx, value))
    };
    Ok(match piece {
        Piece::Data(bytes) => Event::Data(bytes),
        Piece::Start(head) => {
            let head = match head {
                // Scripts look into heads without asking.
                Plain::Null => Object::new(ctx.clone())?.into_value(),
                head => to_js(ctx, &head)?,
            };
            custom(ScriptEvent::Start(Persistent::save(ctx, head), None))
        }
        Piece::End { tail, payload } => custom(ScriptEvent::End(kept(tail)?, kept(payload)?)),
    })
}

impl Filter for Decoding {
    fn name(&self) -> &'static str {
        self.def.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if self.over {
            return;
        }
        let ends = is_close(&event);
        let Event::Data(data) = &event else {
            if !ends {
                return cx.forward(event);
            }
            self.over = true;
            let mut pieces = Vec::new();
            let done = match &mut self.reader {
                None => Ok(()),
                Some(Reader::Mqtt(reader)) => reader.finish(&mut pieces),
                Some(Reader::Bgp(reader)) => reader.finish(&mut pieces),
                Some(Reader::Other(reader)) => reader.finish(&mut pieces),
            };
            self.forward(cx, pieces);
            if let Err(error) = done {
                log::line("WRN", &format!("{}: {}: {error}", self.def.label, self.def.name));
            }
            return cx.forward(event);
        };
        let (def, scope) = (&self.def, &self.scope);
        let reader = self.reader.get_or_insert_with(|| def.reader(scope));
        let mut pieces = Vec::new();
        let read = match reader {
            Reader::Mqtt(reader) => {
                let before = reader.level();
                let read = reader.push(data.clone(), &mut pieces);
                if before.is_none() && reader.level().is_some() {
                    level_of(scope, reader.level());
                }
                read
            }
            Reader::Bgp(reader) => {
                reader.set_as4(def.as4(scope));
                reader.push(data.clone(), &mut pieces)
            }
            Reader::Other(reader) => reader.push(data.clone(), &mut pieces),
        };
        self.forward(cx, pieces);
        if let Err(error) = read {
            self.over = true;
            log::line("WRN", &format!("{}: {}: {error}", self.def.label, self.def.name));
            cx.forward(Event::Close(CloseReason::Protocol));
        }
    }
}

struct Encoding {
    def: Rc<Codec>,
    scope: Scope,
    writer: Option<Writer>,
    over: bool,
}

impl Filter for Encoding {
    fn name(&self) -> &'static str {
        self.def.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if self.over {
            return;
        }
        let piece = match (&event, script_event(&event)) {
            (Event::Data(bytes), _) => Ok(Piece::Data(bytes.clone())),
            (_, Some(ScriptEvent::Start(head, _))) => {
                self.scope.engine().with(|ctx| Ok(Piece::Start(plain(ctx, head)?.unwrap_or_default())))
            }
            (_, Some(ScriptEvent::End(tail, payload))) => self
                .scope
                .engine()
                .with(|ctx| Ok(Piece::End { tail: plain(ctx, tail)?, payload: plain(ctx, payload)? })),
            _ => return cx.forward(event),
        };
        let (def, scope) = (&self.def, &self.scope);
        let writer = self.writer.get_or_insert_with(|| def.writer(scope));
        let mut out = Vec::new();
        let written = piece.map_err(|error| error.to_string()).and_then(|piece| {
            let done = match writer {
                Writer::Mqtt(writer) => {
                    if let (Piece::Start(_), Some(level)) = (&piece, level_of(scope, None)) {
                        writer.set_level(level);
                    }
                    writer.push(piece, &mut out)
                }
                Writer::Bgp(writer) => {
                    writer.set_as4(def.as4(scope));
                    writer.push(piece, &mut out)
                }
                Writer::Other(writer) => writer.push(piece, &mut out),
            };
            done.map_err(|error| error.to_string())
        });
        out.into_iter().for_each(|bytes| cx.forward(Event::Data(bytes)));
        if let Err(error) = written {
            self.over = true;
            log::line("ERR", &format!("{}: {}: {error}", self.def.label, self.def.name));
            cx.forward(Event::Close(CloseReason::Script));
        }
    }
}

pub(super) fn plain<'js>(ctx: &Ctx<'js>, kept: &Kept) -> Result<Option<Plain>> {
    let value = kept.clone().restore(ctx)?;
    Ok(from_js(ctx, &value)?.filter(|value| *value != Plain::Null))
}
