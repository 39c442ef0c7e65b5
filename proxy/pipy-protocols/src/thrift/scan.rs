//! Where an unframed message ends.
//!
//! A stack of what is open, and how many bytes may be passed without a look. Each step takes one token,
//! or waits until all of it has arrived.

use std::borrow::Cow;

use super::{DEPTH_MAX, Dialect, Type};

/// What is open, outermost first.
#[derive(Debug)]
enum Open {
    /// Fields up to a stop.
    Struct,
    /// So many values, of one type or of two in turn.
    Values { types: [Type; 2], left: u64 },
    /// Bytes whose contents do not matter.
    Skip(u64),
    /// A message's name, after its length.
    Name,
    /// What a compact or old message has between its name and its fields, and before its name.
    Varint,
}

#[derive(Debug)]
pub(super) struct Scan {
    dialect: Dialect,
    open: Vec<Open>,
    /// How many bytes were looked at.
    pub(super) offset: usize,
}

/// Why a message cannot be scanned.
pub(super) type Reason = Cow<'static, str>;

impl Scan {
    /// A scan of a message from its first byte.
    pub(super) fn new(dialect: Dialect) -> Self {
        let open = match dialect {
            // Version, name, sequence.
            Dialect::Binary => vec![Open::Struct, Open::Skip(4), Open::Name, Open::Skip(4)],
            // Name, type, sequence.
            Dialect::Old => vec![Open::Struct, Open::Skip(5), Open::Name],
            // Protocol and version, sequence, name.
            Dialect::Compact => vec![Open::Struct, Open::Name, Open::Varint, Open::Skip(2)],
        };
        Self { dialect, open, offset: 0 }
    }

    /// Goes on; true when the message is complete. `bytes` starts where the message does.
    pub(super) fn go(&mut self, bytes: &[u8]) -> Result<bool, Reason> {
        while let Some(top) = self.open.pop() {
            let rest = bytes.get(self.offset..).unwrap_or_default();
            match self.step(top, rest)? {
                Ok(size) => self.offset += size,
                Err(again) => {
                    self.open.push(again);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// One token: how long it was, or what to go on with when more has arrived.
    fn step(&mut self, top: Open, bytes: &[u8]) -> Result<Result<usize, Open>, Reason> {
        let is_compact = self.dialect == Dialect::Compact;
        Ok(match top {
            Open::Skip(count) => match usize::try_from(count) {
                Ok(count) if count <= bytes.len() => Ok(count),
                _ => {
                    self.offset += bytes.len();
                    Err(Open::Skip(count - bytes.len() as u64))
                }
            },
            Open::Varint => varint(bytes)?.map(|(_, size)| size).ok_or(Open::Varint),
            Open::Name => self.length(bytes)?.ok_or(Open::Name),
            Open::Struct if is_compact => match bytes.first() {
                None => Err(Open::Struct),
                Some(0) => Ok(1),
                Some(&byte) => {
                    let id = if byte >> 4 == 0 {
                        varint(bytes.get(1..).unwrap_or_default())?
                    } else {
                        Some((0, 0))
                    };
                    let Some((_, size)) = id else { return Ok(Err(Open::Struct)) };
                    let of = self.of(byte & 15)?;
                    self.push(Open::Struct)?;
                    if of != Type::Bool {
                        self.push(Open::Values { types: [of; 2], left: 1 })?;
                    }
                    Ok(1 + size)
                }
            },
            Open::Struct => match bytes {
                [0, ..] => Ok(1),
                [code, _, _, ..] => {
                    let of = self.of(*code)?;
                    self.push(Open::Struct)?;
                    self.push(Open::Values { types: [of; 2], left: 1 })?;
                    Ok(3)
                }
                _ => Err(Open::Struct),
            },
            Open::Values { left: 0, .. } => Ok(0),
            Open::Values { types: [of, next], left } => {
                let again = || Open::Values { types: [of, next], left };
                let Some((size, inner)) = self.value(of, bytes)? else { return Ok(Err(again())) };
                if left > 1 {
                    self.push(Open::Values { types: [next, of], left: left - 1 })?;
                }
                if let Some(inner) = inner {
                    self.push(inner)?;
                }
                Ok(size)
            }
        })
    }

    fn push(&mut self, open: Open) -> Result<(), Reason> {
        self.open.push(open);
        // Each value within another may leave two entries: what it is, and what comes after it.
        if self.open.len() > 2 * DEPTH_MAX + 4 {
            Err("values too deep within each other".into())
        } else {
            Ok(())
        }
    }

    fn of(&self, code: u8) -> Result<Type, Reason> {
        Type::from_code(self.dialect, code).ok_or_else(|| format!("unknown type {code}").into())
    }

    /// A length, with as many bytes to pass.
    fn length(&mut self, bytes: &[u8]) -> Result<Option<usize>, Reason> {
        let Some((length, size)) = self.size(bytes)? else { return Ok(None) };
        self.push(Open::Skip(length))?;
        Ok(Some(size))
    }

    fn size(&self, bytes: &[u8]) -> Result<Option<(u64, usize)>, Reason> {
        if self.dialect == Dialect::Compact {
            return match varint(bytes)? {
                Some((length, _)) if length > u64::from(u32::MAX >> 1) => Err("a negative length".into()),
                other => Ok(other),
            };
        }
        let Some(length) = bytes.first_chunk::<4>() else { return Ok(None) };
        let length = i32::from_be_bytes(*length);
        Ok(Some((u64::try_from(length).map_err(|_| "a negative length")?, 4)))
    }

    /// The first token of a value, with what is within it; `None` when more is needed.
    fn value(&self, of: Type, bytes: &[u8]) -> Result<Option<(usize, Option<Open>)>, Reason> {
        let is_compact = self.dialect == Dialect::Compact;
        let skip = |count| Ok(Some((0, Some(Open::Skip(count)))));
        match of {
            Type::Bool | Type::I8 => skip(1),
            Type::Double => skip(8),
            Type::Uuid => skip(16),
            Type::I16 | Type::I32 | Type::I64 if is_compact => {
                Ok(varint(bytes)?.map(|(_, size)| (size, None)))
            }
            Type::I16 => skip(2),
            Type::I32 => skip(4),
            Type::I64 => skip(8),
            Type::Struct => Ok(Some((0, Some(Open::Struct)))),
            Type::Binary => Ok(self.size(bytes)?.map(|(length, size)| (size, Some(Open::Skip(length))))),
            Type::List | Type::Set if is_compact => {
                let Some(&byte) = bytes.first() else { return Ok(None) };
                let of = self.of(byte & 15)?;
                let long = byte >> 4 == 15;
                let length = if long {
                    self.size(bytes.get(1..).unwrap_or_default())?
                } else {
                    Some((u64::from(byte >> 4), 0))
                };
                Ok(length.map(|(left, size)| (1 + size, Some(Open::Values { types: [of; 2], left }))))
            }
            Type::List | Type::Set => {
                let [code, rest @ ..] = bytes else { return Ok(None) };
                let Some((left, size)) = self.size(rest)? else { return Ok(None) };
                let types = if left == 0 { [Type::I8; 2] } else { [self.of(*code)?; 2] };
                Ok(Some((1 + size, Some(Open::Values { types, left }))))
            }
            Type::Map if is_compact => match self.size(bytes)? {
                None => Ok(None),
                Some((0, size)) => Ok(Some((size, None))),
                Some((length, size)) => {
                    let Some(&byte) = bytes.get(size) else { return Ok(None) };
                    let types = [self.of(byte >> 4)?, self.of(byte & 15)?];
                    Ok(Some((size + 1, Some(Open::Values { types, left: length * 2 }))))
                }
            },
            Type::Map => {
                let [key, value, rest @ ..] = bytes else { return Ok(None) };
                let Some((length, size)) = self.size(rest)? else { return Ok(None) };
                let types = if length == 0 { [Type::I8; 2] } else { [self.of(*key)?, self.of(*value)?] };
                Ok(Some((2 + size, Some(Open::Values { types, left: length * 2 }))))
            }
        }
    }
}

/// A number of seven bits in each byte, and its size; `None` when it is not complete.
pub(super) fn varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, Reason> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 127) << (7 * at);
        if byte & 128 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() >= 10 { Err("a number of more than ten bytes".into()) } else { Ok(None) }
}
