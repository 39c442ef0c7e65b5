//! The one vocabulary in which codecs speak to scripts: what a head, a tail or a payload is made of.
//!
//! Each variant has exactly one counterpart in JavaScript, so that whoever binds codecs to a script
//! engine writes two functions, and not two for each codec.
//!
//! Invariants: the order of an object's fields is the order of insertion, and a key occurs once.
//! Field names are those that scripts see.
//!
//! Not done here: prototypes, cycles, functions, `undefined` (a field that is not there).

use std::borrow::Cow;

use bytes::Bytes;

/// A value that scripts see.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// `null`.
    #[default]
    Null,
    /// A boolean.
    Bool(bool),
    /// A whole number. JavaScript's numbers hold it exactly up to 2⁵³.
    Int(i64),
    /// A number.
    Number(f64),
    /// A string.
    String(String),
    /// Bytes that are not known to be text: `Data`.
    Bytes(Bytes),
    /// A moment, in milliseconds since 1970: `Date`.
    Date(i64),
    /// An array.
    Array(Vec<Value>),
    /// A plain object.
    Object(Object),
    /// Keys of any kind: `Map`.
    Map(Vec<(Value, Value)>),
    /// Different values: `Set`.
    Set(Vec<Value>),
    /// An answer that says that something failed: `Error`, with this message.
    Error(String),
}

/// A plain object: names and values, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Object(Vec<(Key, Value)>);

/// A field's name; mostly known when the program is built, and then not allocated.
pub type Key = Cow<'static, str>;

impl Object {
    /// An object without fields.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Sets a field; a field of that name keeps its place.
    pub fn set(&mut self, key: impl Into<Key>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key, value)),
        }
    }

    /// The same, for building an object in one expression.
    #[must_use]
    pub fn with(mut self, key: impl Into<Key>, value: impl Into<Value>) -> Self {
        self.set(key, value);
        self
    }

    /// Adds fields from a peer without looking for doubles at each: the last value of a name counts.
    ///
    /// WHY: with [`Object::set`] a peer could make a large map cost the square of its size.
    #[must_use]
    pub fn from_pairs(pairs: Vec<(String, Value)>) -> Self {
        let mut places = std::collections::HashMap::with_capacity(pairs.len());
        let mut fields: Vec<(Key, Value)> = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            match places.get(&key).and_then(|place: &usize| fields.get_mut(*place)) {
                Some(field) => field.1 = value,
                None => {
                    places.insert(key.clone(), fields.len());
                    fields.push((key.into(), value));
                }
            }
        }
        Self(fields)
    }

    /// A field's value.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// All fields, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (&**key, value))
    }

    /// How many fields there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for Object {
    type Item = (Key, Value);
    type IntoIter = std::vec::IntoIter<(Key, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<(Key, Value)> for Object {
    fn from_iter<I: IntoIterator<Item = (Key, Value)>>(fields: I) -> Self {
        Self::from_pairs(fields.into_iter().map(|(key, value)| (key.into_owned(), value)).collect())
    }
}

impl Value {
    /// A field of an object; `None` for other values, and for fields that are `null`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Object(object) => object.get(key).filter(|value| **value != Self::Null),
            _ => None,
        }
    }

    /// As JavaScript's truth: what is missing, zero or empty text is false.
    #[must_use]
    pub fn is_truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Number(value) => *value != 0.0 && !value.is_nan(),
            Self::String(value) => !value.is_empty(),
            _ => true,
        }
    }

    /// A whole number, if this is one in either representation.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            Self::Bool(value) => Some(i64::from(*value)),
            // Above 2⁵³ a double no longer tells neighbours apart; such a number is taken as it is.
            Self::Number(value) if value.fract() == 0.0 && value.abs() < 9.3e18 =>
            {
                #[allow(clippy::cast_possible_truncation)]
                Some(*value as i64)
            }
            _ => None,
        }
    }

    /// Any number.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        match self {
            #[allow(clippy::cast_precision_loss)]
            Self::Int(value) => Some(*value as f64),
            Self::Number(value) => Some(*value),
            _ => None,
        }
    }

    /// Text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(value) => Some(value),
            _ => None,
        }
    }

    /// Elements of an array or a set.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(values) | Self::Set(values) => Some(values),
            _ => None,
        }
    }

    /// A plain object.
    #[must_use]
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The bytes of text or bytes, shared where they already are bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Option<Bytes> {
        match self {
            Self::Bytes(value) => Some(value.clone()),
            Self::String(value) => Some(Bytes::copy_from_slice(value.as_bytes())),
            _ => None,
        }
    }

    /// Text where the bytes are UTF-8, and the bytes themselves where not.
    #[must_use]
    pub fn text_or_bytes(bytes: Bytes) -> Self {
        match std::str::from_utf8(&bytes) {
            Ok(text) => Self::String(text.to_owned()),
            Err(_) => Self::Bytes(bytes),
        }
    }

    /// What kind of value this is, for messages to people.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Bytes(_) => "Data",
            Self::Date(_) => "a Date",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
            Self::Map(_) => "a Map",
            Self::Set(_) => "a Set",
            Self::Error(_) => "an Error",
        }
    }
}

macro_rules! from {
    ($($from:ty => $variant:ident),* $(,)?) => { $(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        }
    )* };
}

from! {
    bool => Bool, i64 => Int, i32 => Int, u32 => Int, u16 => Int, i16 => Int, u8 => Int, i8 => Int,
    f64 => Number, String => String, &str => String, Bytes => Bytes, Vec<Value> => Array, Object => Object,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_place_and_the_last_value_counts() {
        let mut object = Object::new().with("a", 1).with("b", 2);
        object.set("a", 3);
        assert_eq!(object.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(object.get("a"), Some(&Value::Int(3)));
        let many =
            Object::from_pairs(vec![("x".into(), 1.into()), ("y".into(), 2.into()), ("x".into(), 9.into())]);
        assert_eq!(many, Object::new().with("x", 9).with("y", 2));
    }

    #[test]
    fn whole_numbers_are_read_from_either_kind_and_halves_from_none() {
        assert_eq!(Value::Number(7.0).as_int(), Some(7));
        assert_eq!(Value::Number(7.5).as_int(), None);
        assert_eq!(Value::Number(f64::NAN).as_int(), None);
        assert_eq!(Value::Number(1e300).as_int(), None);
    }
}
