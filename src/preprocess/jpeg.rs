//! The little of JPEG's structure that the decoder does not tell (ITU T.81, annex B): whether it is progressive, and whether it is all there.

/// What stands between the markers.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// An end-of-image marker was found.
    Marked,
    /// The bytes ran out.
    Early,
}

/// Whether the first frame header is of a progressive kind, which needs memory for all coefficients.
pub fn is_progressive(bytes: &[u8]) -> bool {
    let mut progressive = false;
    walk(bytes, |marker| {
        progressive = matches!(marker, 0xC2 | 0xC6 | 0xCA | 0xCE);
        // Start of frame, but not the tables that share its numbers.
        !(matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC))
    });
    progressive
}

/// Whether the file reaches its end-of-image marker. One that does not was cut off, and libjpeg (so Pillow) refuses it, while the decoder
/// used here would paint the rest grey.
pub fn is_whole(bytes: &[u8]) -> bool {
    walk(bytes, |_| true) == End::Marked
}

/// Calls `go_on` for each marker until that says no.
fn walk(bytes: &[u8], mut go_on: impl FnMut(u8) -> bool) -> End {
    let mut at = 2;
    loop {
        // To the next marker: entropy-coded data may stand before it, in which FF is followed by 00 or by a restart marker.
        loop {
            match bytes.get(at..) {
                Some([0xFF, 0x00 | 0xD0..=0xD7, ..]) => at += 2,
                Some([0xFF, 0xFF, ..]) => at += 1,
                Some([0xFF, _, ..]) => break,
                Some([_, ..]) => at += 1,
                _ => return End::Early,
            }
        }
        let marker = bytes[at + 1];
        at += 2;
        if marker == 0xD9 || !go_on(marker) {
            return End::Marked;
        }
        // Markers without a length: start of image, and one for arithmetic coding.
        if matches!(marker, 0x01 | 0xD8) {
            continue;
        }
        match bytes.get(at..at + 2) {
            Some(&[high, low]) => at += usize::from(u16::from_be_bytes([high, low])).max(2),
            _ => return End::Early,
        }
    }
}
