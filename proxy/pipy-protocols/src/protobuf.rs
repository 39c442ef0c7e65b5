//! Protocol Buffers without a schema: fields by their number, in the type that the reader asks for.
//!
//! A [`Message`] keeps records as they came, in order; what is not touched is written as it was. A getter
//! names the kind that the schema would: [`Kind::Int32`] and [`Kind::Sint32`] read the same bytes
//! differently. A field that is not there, or is of another wire type, is the kind's zero, as in proto3.
//!
//! Invariants: reading is linear; nothing of what was read is copied.
//!
//! Not done here: schemas, groups (refused), names.

use bytes::{BufMut, Bytes, BytesMut};

use crate::input::Cursor;
use crate::{Error, Value};

const PROTOCOL: &str = "protobuf";

/// LIMIT: records of a message; each takes some 48 bytes of memory, and two of the wire.
const RECORDS_MAX: usize = 1024 * 1024;
const FIELD_MAX: u64 = (1 << 29) - 1;

/// How a field is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireType {
    /// The field is not there.
    None,
    /// Seven bits in each byte.
    Varint,
    /// Eight bytes.
    I64,
    /// A length, and so many bytes.
    Len,
    /// Four bytes.
    I32,
}

/// The kinds of scalar fields, as schemas call them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // They are named as in schemas.
pub enum Kind {
    Float,
    Double,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
}

impl Kind {
    /// A kind by the name in `getX` and `setX`: `Int32`, `Sfixed64`, ...
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        use Kind::{
            Bool, Bytes, Double, Fixed32, Fixed64, Float, Int32, Int64, Sfixed32, Sfixed64, Sint32, Sint64,
            String, Uint32, Uint64,
        };
        let all = [
            Float, Double, Int32, Int64, Uint32, Uint64, Sint32, Sint64, Fixed32, Fixed64, Sfixed32,
            Sfixed64, Bool, String, Bytes,
        ];
        all.into_iter().find(|kind| format!("{kind:?}") == name)
    }

    const fn wire(self) -> WireType {
        match self {
            Self::Float | Self::Fixed32 | Self::Sfixed32 => WireType::I32,
            Self::Double | Self::Fixed64 | Self::Sfixed64 => WireType::I64,
            Self::String | Self::Bytes => WireType::Len,
            _ => WireType::Varint,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Data {
    Bits(WireType, u64),
    Len(Bytes),
}

/// A message: records in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Message {
    records: Vec<(u32, Data)>,
}

impl Message {
    /// A message without fields.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a message that is all of `bytes`.
    ///
    /// # Errors
    ///
    /// When it is malformed or exceeds a limit.
    pub fn decode(bytes: &Bytes) -> Result<Self, Error> {
        let mut cursor = Cursor::new(PROTOCOL, bytes.clone(), 0);
        let mut records = Vec::new();
        while !cursor.is_empty() {
            let at = cursor.clone();
            let tag = varint(&mut cursor)?;
            let field = tag >> 3;
            if field == 0 || field > FIELD_MAX {
                return Err(at.malformed(format!("there is no field {field}")));
            }
            let data = match tag & 7 {
                0 => Data::Bits(WireType::Varint, varint(&mut cursor)?),
                1 => Data::Bits(WireType::I64, cursor.u64("a number")?.swap_bytes()),
                5 => Data::Bits(WireType::I32, u64::from(cursor.u32("a number")?.swap_bytes())),
                2 => {
                    let length = varint(&mut cursor)?;
                    Data::Len(cursor.take(usize::try_from(length).unwrap_or(usize::MAX), "a field")?)
                }
                other => return Err(at.malformed(format!("wire type {other} of field {field}"))),
            };
            if records.len() >= RECORDS_MAX {
                return Err(at.too_large("records", RECORDS_MAX as u64));
            }
            records.push((u32::try_from(field).unwrap_or_default(), data));
        }
        Ok(Self { records })
    }

    /// The message's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut output = BytesMut::new();
        for (field, data) in &self.records {
            let tag = u64::from(*field) << 3;
            match data {
                Data::Bits(WireType::I32, bits) => {
                    put_varint(&mut output, tag | 5);
                    output.put_u32_le(u32::try_from(*bits).unwrap_or_default());
                }
                Data::Bits(WireType::I64, bits) => {
                    put_varint(&mut output, tag | 1);
                    output.put_u64_le(*bits);
                }
                Data::Bits(_, bits) => {
                    put_varint(&mut output, tag);
                    put_varint(&mut output, *bits);
                }
                Data::Len(bytes) => {
                    put_varint(&mut output, tag | 2);
                    put_varint(&mut output, bytes.len() as u64);
                    output.put_slice(bytes);
                }
            }
        }
        output.freeze()
    }

    /// How a field is written; of several, the last.
    #[must_use]
    pub fn wire_type(&self, field: u32) -> WireType {
        match self.last(field) {
            None => WireType::None,
            Some(Data::Bits(wire, _)) => *wire,
            Some(Data::Len(_)) => WireType::Len,
        }
    }

    fn last(&self, field: u32) -> Option<&Data> {
        self.records.iter().rev().find(|record| record.0 == field).map(|record| &record.1)
    }

    /// A field's value; of several, the last.
    #[must_use]
    pub fn get(&self, field: u32, kind: Kind) -> Value {
        let data = self.last(field).filter(|data| match data {
            Data::Bits(wire, _) => *wire == kind.wire(),
            Data::Len(_) => kind.wire() == WireType::Len,
        });
        match data {
            Some(Data::Bits(_, bits)) => value(kind, *bits),
            Some(Data::Len(bytes)) if kind == Kind::String => {
                String::from_utf8_lossy(bytes).into_owned().into()
            }
            Some(Data::Len(bytes)) => bytes.clone().into(),
            None if kind == Kind::String => "".into(),
            None if kind == Kind::Bytes => Bytes::new().into(),
            None => value(kind, 0),
        }
    }

    /// All values of a repeated field, packed or not.
    #[must_use]
    pub fn get_array(&self, field: u32, kind: Kind) -> Vec<Value> {
        let mut values = Vec::new();
        for (_, data) in self.records.iter().filter(|record| record.0 == field) {
            match data {
                Data::Bits(wire, bits) if *wire == kind.wire() => values.push(value(kind, *bits)),
                Data::Bits(..) => {}
                Data::Len(bytes) if kind == Kind::String => {
                    values.push(String::from_utf8_lossy(bytes).into_owned().into());
                }
                Data::Len(bytes) if kind == Kind::Bytes => values.push(bytes.clone().into()),
                Data::Len(packed) => {
                    let mut cursor = Cursor::new(PROTOCOL, packed.clone(), 0);
                    while !cursor.is_empty() {
                        let bits = match kind.wire() {
                            WireType::I32 => cursor.u32("a number").map(|bits| u64::from(bits.swap_bytes())),
                            WireType::I64 => cursor.u64("a number").map(u64::swap_bytes),
                            _ => varint(&mut cursor),
                        };
                        let Ok(bits) = bits else { break };
                        values.push(value(kind, bits));
                    }
                }
            }
        }
        values
    }

    /// A field that is a message; of several, the last.
    ///
    /// # Errors
    ///
    /// When its bytes are no message.
    pub fn get_message(&self, field: u32) -> Result<Option<Self>, Error> {
        match self.last(field) {
            Some(Data::Len(bytes)) => Self::decode(bytes).map(Some),
            _ => Ok(None),
        }
    }

    /// All messages of a repeated field.
    ///
    /// # Errors
    ///
    /// When the bytes of one are no message.
    pub fn get_message_array(&self, field: u32) -> Result<Vec<Self>, Error> {
        let of = self.records.iter().filter(|record| record.0 == field);
        of.filter_map(|(_, data)| if let Data::Len(bytes) = data { Some(Self::decode(bytes)) } else { None })
            .collect()
    }

    /// Sets a field to one value.
    ///
    /// # Errors
    ///
    /// When the value is not of that kind.
    pub fn set(&mut self, field: u32, kind: Kind, value: &Value) -> Result<(), Error> {
        let data = data(field, kind, value)?;
        self.replace(field, vec![data]);
        Ok(())
    }

    /// Sets a repeated field: numbers packed, as proto3 does, others one by one.
    ///
    /// # Errors
    ///
    /// When a value is not of that kind.
    pub fn set_array(&mut self, field: u32, kind: Kind, values: &[Value]) -> Result<(), Error> {
        let all = values.iter().map(|value| data(field, kind, value)).collect::<Result<Vec<_>, _>>()?;
        if kind.wire() == WireType::Len || all.is_empty() {
            self.replace(field, all);
            return Ok(());
        }
        let mut packed = BytesMut::new();
        for data in all {
            match data {
                Data::Bits(WireType::I32, bits) => packed.put_u32_le(u32::try_from(bits).unwrap_or_default()),
                Data::Bits(WireType::I64, bits) => packed.put_u64_le(bits),
                Data::Bits(_, bits) => put_varint(&mut packed, bits),
                Data::Len(_) => {}
            }
        }
        self.replace(field, vec![Data::Len(packed.freeze())]);
        Ok(())
    }

    /// Sets a field to messages, each a record.
    pub fn set_messages(&mut self, field: u32, messages: &[Self]) {
        self.replace(field, messages.iter().map(|message| Data::Len(message.encode())).collect());
    }

    fn replace(&mut self, field: u32, data: Vec<Data>) {
        let place = self.records.iter().position(|record| record.0 == field).unwrap_or(self.records.len());
        self.records.retain(|record| record.0 != field);
        self.records.splice(place..place, data.into_iter().map(|data| (field, data)));
    }
}

#[allow(clippy::cast_possible_truncation)] // A 32 bit field is the low half of what came (proto3).
fn value(kind: Kind, bits: u64) -> Value {
    let half = bits as u32;
    match kind {
        Kind::Float => f64::from(f32::from_bits(half)).into(),
        Kind::Double => f64::from_bits(bits).into(),
        Kind::Int32 | Kind::Sfixed32 => half.cast_signed().into(),
        Kind::Int64 | Kind::Sfixed64 => bits.cast_signed().into(),
        Kind::Uint32 | Kind::Fixed32 => half.into(),
        #[allow(clippy::cast_precision_loss)] // More than an i64 can hold has no better place.
        Kind::Uint64 | Kind::Fixed64 => i64::try_from(bits).map_or((bits as f64).into(), Value::Int),
        Kind::Sint32 => ((half >> 1).cast_signed() ^ -(half & 1).cast_signed()).into(),
        Kind::Sint64 => ((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed()).into(),
        Kind::Bool => (bits != 0).into(),
        Kind::String | Kind::Bytes => Value::Null,
    }
}

fn data(field: u32, kind: Kind, value: &Value) -> Result<Data, Error> {
    let wrong = || Error::unencodable(PROTOCOL, format!("field {field} is {}, not {kind:?}", value.kind()));
    if field == 0 || u64::from(field) > FIELD_MAX {
        return Err(Error::unencodable(PROTOCOL, format!("there is no field {field}")));
    }
    let whole =
        |min: i64, max: i64| value.as_int().filter(|number| (min..=max).contains(number)).ok_or_else(wrong);
    let int = || whole(i32::MIN.into(), i32::MAX.into());
    let bits = match kind {
        #[allow(clippy::cast_possible_truncation)] // That is what a float is.
        Kind::Float => u64::from((value.as_number().ok_or_else(wrong)? as f32).to_bits()),
        Kind::Double => value.as_number().ok_or_else(wrong)?.to_bits(),
        Kind::Int32 => int()?.cast_unsigned(),
        Kind::Int64 | Kind::Sfixed64 => whole(i64::MIN, i64::MAX)?.cast_unsigned(),
        Kind::Uint32 | Kind::Fixed32 => whole(0, u32::MAX.into())?.cast_unsigned(),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Within the range of a u64.
        Kind::Uint64 | Kind::Fixed64 => match value {
            Value::Number(number) if (9.2e18..1.8e19).contains(number) => *number as u64,
            _ => whole(0, i64::MAX)?.cast_unsigned(),
        },
        Kind::Sint32 | Kind::Sint64 => {
            let number = if kind == Kind::Sint32 { int()? } else { whole(i64::MIN, i64::MAX)? };
            (number << 1 ^ number >> 63).cast_unsigned()
        }
        Kind::Sfixed32 => int()?.cast_unsigned() & u64::from(u32::MAX),
        Kind::Bool => u64::from(value.is_truthy()),
        Kind::String | Kind::Bytes => return value.to_bytes().map(Data::Len).ok_or_else(wrong),
    };
    Ok(Data::Bits(kind.wire(), bits))
}

fn varint(cursor: &mut Cursor) -> Result<u64, Error> {
    let mut value = 0;
    for at in 0..10 {
        let byte = cursor.u8("a number")?;
        value |= u64::from(byte & 127) << (7 * at);
        if byte & 128 == 0 {
            return Ok(value);
        }
    }
    Err(cursor.malformed("a number of more than ten bytes"))
}

fn put_varint(output: &mut BytesMut, mut value: u64) {
    while value > 127 {
        output.put_u8(u8::try_from(value & 127).unwrap_or_default() | 128);
        value >>= 7;
    }
    output.put_u8(u8::try_from(value).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{capture, hex};

    #[test]
    fn what_protobuf_itself_wrote_is_read_and_written_byte_for_byte() {
        let bytes = Bytes::from(capture("protobuf"));
        let file = Message::decode(&bytes).unwrap();
        assert_eq!(file.get(1, Kind::String), "a.proto".into());
        assert_eq!(file.get_array(3, Kind::String), ["b.proto".into(), "c.proto".into()]);
        assert_eq!(file.get_array(10, Kind::Int32), [0.into(), 1.into()], "not packed");
        let field = file.get_message(4).unwrap().unwrap().get_message_array(2).unwrap().remove(0);
        assert_eq!((field.get(1, Kind::String), field.get(3, Kind::Int32)), ("x".into(), 1.into()));
        assert_eq!((field.wire_type(5), field.wire_type(99)), (WireType::Varint, WireType::None));
        assert_eq!(file.encode(), bytes);
    }

    #[test]
    fn numbers_of_the_documentation_are_read() {
        let message = |bytes: &str| Message::decode(&hex(bytes).into()).unwrap();
        assert_eq!(message("08 9601").get(1, Kind::Int32), 150.into());
        assert_eq!(message("08 03").get(1, Kind::Sint32), (-2).into());
        assert_eq!(message("08 ffffffffffffffffff01").get(1, Kind::Int32), (-1).into());
        assert_eq!(
            message("32 06 03 8e02 9ea705").get_array(6, Kind::Int32),
            [3.into(), 270.into(), 86942.into()]
        );
        assert_eq!(message("08 01 08 02").get(1, Kind::Int32), 2.into(), "the last counts");
        assert_eq!(message("08 01").get(1, Kind::Double), 0.0.into(), "of another wire type");
    }

    #[test]
    fn what_is_not_protobuf_is_refused() {
        for (bytes, reason) in [
            ("00", "field 0"),
            ("0b", "wire type 3"),
            ("08", "takes 1 bytes"),
            ("0a 05 61", "takes 5 bytes"),
            ("08 ffffffffffffffffffff01", "ten bytes"),
            ("0d 01", "takes 4 bytes"),
        ] {
            let error = Message::decode(&hex(bytes).into()).unwrap_err().to_string();
            assert!(error.contains(reason), "{bytes}: {error}");
        }
        let mut message = Message::new();
        assert!(
            message.set(1, Kind::Int32, &Value::Int(1 << 40)).unwrap_err().to_string().contains("not Int32")
        );
        assert!(message.set(0, Kind::Int32, &1.into()).is_err());
    }

    proptest! {
        #[test]
        fn values_come_back(number: i64, float: f32, double: f64, text: String, field in 1..536_870_911_u32, numbers in prop::collection::vec(any::<i32>(), 0..20)) {
            let mut message = Message::new();
            let small = Value::from(i32::try_from(number >> 32).unwrap());
            let natural = Value::Int(number & i64::MAX);
            let cases = [
                (Kind::Int32, small.clone()), (Kind::Sint32, small.clone()), (Kind::Sfixed32, small),
                (Kind::Int64, number.into()), (Kind::Sint64, number.into()), (Kind::Sfixed64, number.into()),
                (Kind::Uint64, natural.clone()), (Kind::Fixed64, natural), (Kind::Uint32, (number & 0xffff_ffff).into()),
                (Kind::Fixed32, (number & 0xffff_ffff).into()), (Kind::Float, f64::from(float).into()), (Kind::Double, double.into()),
                (Kind::Bool, (number > 0).into()), (Kind::String, text.clone().into()), (Kind::Bytes, Bytes::from(text).into()),
            ];
            for (kind, value) in cases {
                message.set(field, kind, &value).unwrap();
                prop_assert_eq!(format!("{:?}", Message::decode(&message.encode()).unwrap().get(field, kind)), format!("{:?}", value));
            }
            let numbers: Vec<Value> = numbers.into_iter().map(Value::from).collect();
            for kind in [Kind::Int32, Kind::Sint64, Kind::Sfixed32] {
                message.set_array(field, kind, &numbers).unwrap();
                prop_assert_eq!(&Message::decode(&message.encode()).unwrap().get_array(field, kind), &numbers);
            }
        }

        #[test]
        fn garbage_is_refused_or_written_so_that_it_reads_the_same(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(message) = Message::decode(&bytes.into()) {
                prop_assert_eq!(Message::decode(&message.encode()).unwrap(), message);
            }
        }
    }
}
