//! Pieces found across chunks; bytes searched once; memory given back.

use super::*;

fn input(chunks: &[&'static [u8]]) -> Input {
    let mut input = Input::default();
    chunks.iter().for_each(|chunk| input.push(Bytes::from_static(chunk)));
    input
}

#[test]
fn a_line_is_found_however_it_is_cut() {
    for chunks in [
        &[&b"ab\r\ncd"[..]][..],
        &[b"a", b"b\r\ncd"],
        &[b"ab\r", b"\ncd"],
        &[b"ab", b"\r", b"\n", b"cd"],
        &[b"", b"ab\r\n", b"", b"cd"],
    ] {
        let mut input = input(chunks);
        assert_eq!(input.take_piece(Until::LineEnd, 100), Ok(Some(Bytes::from_static(b"ab\r\n"))));
        assert_eq!(input.buffered(), 2);
        assert_eq!(input.take_data(100), Some(Bytes::from_static(b"cd")));
        assert!(input.is_empty() && input.owns_no_heap());
    }
}

#[test]
fn a_section_ends_at_its_first_blank_line() {
    let mut input = input(&[b"a\r\nb\r\n\r\nc\r\n\r\n\r\n"]);
    let mut next = || input.take_piece(Until::BlankLine, 100).unwrap().map(|piece| piece.to_vec());
    assert_eq!(next(), Some(b"a\r\nb\r\n\r\n".to_vec()));
    assert_eq!(next(), Some(b"c\r\n\r\n".to_vec()));
    assert_eq!(next(), Some(b"\r\n".to_vec()));
    assert_eq!(next(), None);
}

#[test]
fn an_unfinished_section_shows_what_it_has() {
    let mut input = input(&[b"GET /", b" HTTP/1.1\r", b"\nA: b\r\nC"]);
    assert_eq!(input.first_line(), None);
    assert_eq!(input.take_piece(Until::BlankLine, 100), Ok(None));
    assert_eq!(input.first_line(), Some(&b"GET / HTTP/1.1"[..]));
    assert_eq!((input.lines(), input.buffered()), (2, 23));
    assert!(input.is_inside_piece());
    input.push(Bytes::from_static(b"\r\n\r\nrest"));
    let piece = input.take_piece(Until::BlankLine, 100).unwrap().unwrap();
    assert_eq!(&piece[..], b"GET / HTTP/1.1\r\nA: b\r\nC\r\n\r\n");
    assert_eq!((input.lines(), input.first_line(), input.is_inside_piece()), (0, None, false));
    assert_eq!(&input.take_all()[..], b"rest");
}

#[test]
fn a_line_feed_needs_its_carriage_return() {
    for chunks in [&[&b"\n"[..]][..], &[b"a\n"], &[b"a", b"\n"], &[b"a\r\n\n"], &[b"a\r\n", b"\n"]] {
        assert_eq!(input(chunks).take_piece(Until::BlankLine, 100), Err(SearchError::BareLf), "{chunks:?}");
    }
}

#[test]
fn a_piece_may_be_as_long_as_the_limit_and_no_longer() {
    assert_eq!(input(&[b"ab\r\n"]).take_piece(Until::LineEnd, 4).unwrap().unwrap().len(), 4);
    assert_eq!(input(&[b"abc\r\n"]).take_piece(Until::LineEnd, 4), Err(SearchError::TooLong));
    assert_eq!(input(&[b"abc\r"]).take_piece(Until::LineEnd, 4), Err(SearchError::TooLong));
    assert_eq!(input(&[b"abc"]).take_piece(Until::LineEnd, 4), Ok(None));
    assert_eq!(input(&[b"ab", b"cd"]).take_piece(Until::LineEnd, 4), Err(SearchError::TooLong));
    // What follows the piece does not count.
    assert!(input(&[b"\r\nmuch more than four"]).take_piece(Until::LineEnd, 4).unwrap().is_some());
}

#[test]
fn data_comes_in_the_chunks_it_was_pushed_in() {
    let mut input = input(&[b"abc", b"de", b"f"]);
    assert_eq!(input.take_data(0), None);
    assert_eq!(input.take_data(2).unwrap(), "ab");
    assert_eq!(input.take_data(2).unwrap(), "c");
    assert_eq!((input.peek(), input.buffered()), (Some(b'd'), 3));
    input.skip_one();
    assert_eq!(input.take_data(u64::MAX).unwrap(), "e");
    assert_eq!(input.take_data(1).unwrap(), "f");
    assert_eq!((input.take_data(1), input.peek()), (None, None));
    input.skip_one();
    assert!(input.owns_no_heap());
}

#[test]
fn everything_can_be_taken_in_the_middle_of_a_piece() {
    let mut input = input(&[b"ab", b"cd"]);
    assert_eq!(input.take_piece(Until::LineEnd, 100), Ok(None));
    input.push(Bytes::from_static(b"\r\nef"));
    assert_eq!(&input.take_all()[..], b"abcd\r\nef");
    assert!(input.owns_no_heap() && !input.is_inside_piece());
    input.push(Bytes::from_static(b"x\r\n"));
    assert_eq!(input.take_piece(Until::LineEnd, 3).unwrap().unwrap(), "x\r\n");
}
