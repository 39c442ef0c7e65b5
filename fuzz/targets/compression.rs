//! Whatever is decompressed stays within its bound.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    use pipy_protocols::compression::{Bound, Decompressor, Format};
    for format in [Format::Gzip, Format::Deflate, Format::Brotli] {
        let bound = Bound { bytes_max: 1 << 20, ratio_max: 1_100 };
        let (mut decompressor, mut output) = (Decompressor::new(format, bound), Vec::new());
        if decompressor.push(data, &mut output).is_ok() {
            let _ = decompressor.finish(&mut output);
        }
        assert!(output.iter().map(bytes::Bytes::len).sum::<usize>() <= 1 << 20);
    }
});
