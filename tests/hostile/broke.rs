//! Files that broke something once, each with a test named after what broke.

use super::alone::{complaint, limits, see};
use super::{alone_in_the_process, make};

/// Sees the first `count` files of a kind.
fn mended(kind: &str, count: usize) {
    let _turn = alone_in_the_process();
    let indices = (0..).filter(|&index| make::name(index).contains(kind)).take(count);
    for file in indices.map(|index| make::file(1, index)) {
        assert_eq!(complaint(&see(&file.bytes, &limits())), None, "{}", file.name);
    }
}

#[test]
fn a_webp_of_frames_within_frames_overflowed_the_stack() {
    mended("webp-frames-in-frames", 2);
}

#[test]
fn a_tiff_of_strips_over_one_another_took_all_the_time_that_there_was() {
    mended("tiff-strips-over-one-another", 4);
}

#[test]
fn a_jpeg_of_thousands_of_scans_took_all_the_time_that_there_was() {
    mended("jpeg-large-of-many-scans", 3);
}

#[test]
fn values_of_a_tiff_were_read_before_memory_was_charged() {
    mended("tiff-many-values", 4);
}

#[test]
fn metadata_of_a_gif_was_kept_before_memory_was_charged() {
    mended("gif-megabytes-of-blocks", 4);
}

#[test]
fn text_of_a_png_took_more_memory_than_charged() {
    mended("png-text", 40);
    mended("png-profile-bomb", 3);
}

#[test]
fn code_tables_of_a_lossless_webp_took_more_memory_than_charged() {
    mended("webp-few-code-tables", 40);
}

#[test]
fn lengths_in_a_lossy_webp_were_believed() {
    mended("webp-lossy-header", 100);
}
