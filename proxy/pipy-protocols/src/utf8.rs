//! Whether a text that comes in pieces is UTF-8, without holding it.

/// Judges pieces one after the other; holds at most the three bytes of a character that is cut.
#[derive(Debug, Default, Clone)]
pub(crate) struct Utf8 {
    cut: Vec<u8>,
}

impl Utf8 {
    /// Whether the text is UTF-8 so far.
    pub(crate) fn push(&mut self, mut piece: &[u8]) -> bool {
        while !self.cut.is_empty() {
            let Some((first, rest)) = piece.split_first() else { return true };
            self.cut.push(*first);
            piece = rest;
            match std::str::from_utf8(&self.cut) {
                Ok(_) => self.cut.clear(),
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        match std::str::from_utf8(piece) {
            Ok(_) => true,
            Err(error) if error.error_len().is_some() => false,
            Err(error) => {
                self.cut = piece.get(error.valid_up_to()..).unwrap_or_default().to_vec();
                true
            }
        }
    }

    /// Whether the text does not end within a character.
    pub(crate) fn is_complete(&self) -> bool {
        self.cut.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Utf8;

    proptest! {
        #[test]
        fn pieces_are_judged_as_the_whole(mut bytes in any::<String>().prop_map(String::into_bytes), damage in any::<Option<(prop::sample::Index, u8)>>(), cut in 1..5_usize) {
            if let Some((at, value)) = damage && !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let mut judge = Utf8::default();
            let good = bytes.chunks(cut).all(|piece| judge.push(piece)) && judge.is_complete();
            prop_assert_eq!(good, std::str::from_utf8(&bytes).is_ok());
        }
    }
}
