//! Files that are two things, nothing, or other than they say.

use super::random::Random;
use super::{Kind, any_sound, kind, rare, sound_of};

pub(super) const KINDS: &[Kind] = &[
    kind("page", "jpg", page),
    kind("nothing", "jpg", |r| vec![*r.pick(&[0, 0xFF, b' ', b'\n']); *r.pick(&[0, 0, 1, 2, 3, 8, 4096])]),
    kind("noise", "png", |r| {
        let length = r.within(1, 5000);
        r.bytes(length)
    }),
    kind("signature-alone", "gif", |r| r.pick(SIGNATURES).to_vec()),
    kind("signature-and-noise", "webp", |r| {
        let length = r.within(1, 2000);
        [*r.pick(SIGNATURES), r.bytes(length).as_slice()].concat()
    }),
    kind("signature-of-another", "bmp", |r| {
        let (signature, body) = (*r.pick(SIGNATURES), any_sound(r));
        [signature, &body[signature.len().min(body.len())..]].concat()
    }),
    kind("spliced", "tif", |r| {
        let (a, b) = (any_sound(r), any_sound(r));
        [&a[..r.below(a.len())], &b[r.below(b.len())..]].concat()
    }),
    kind("one-behind-the-other", "jpg", |r| {
        let (a, b) = (any_sound(r), any_sound(r));
        [a, b].concat()
    }),
    kind("something-before-it", "jpg", |r| {
        [*r.pick(&[b"\xEF\xBB\xBF".as_slice(), b"\r\n\r\n", b"\0", b"HTTP/1.1 200 OK\r\n\r\n"]), any_sound(r)].concat()
    }),
    kind("archive-and-picture", "jpg", archive),
    kind("document-and-picture", "jpg", document),
    kind("program-and-picture", "gif", |r| [sound_of(r, "gif"), b"PK\x03\x04\x14\0\0\0META-INF/MANIFEST.MF", &r.bytes(200)].concat()),
    rare("megabytes-of-one-byte", "jpg", |r| [*r.pick(SIGNATURES), &vec![*r.pick(&[0, 0xFF, b'A']); r.within(8 << 20, 31 << 20)]].concat()),
    rare("more-than-may-be-fetched", "jpg", |r| [sound_of(r, "jpg"), &vec![0; 32 << 20]].concat()),
];

const SIGNATURES: &[&[u8]] = &[
    b"\xFF\xD8\xFF",
    b"\xFF\xD8\xFF\xE0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0",
    b"\x89PNG\r\n\x1a\n",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x09\0\0\0\x09\x08\x02\0\0\0",
    b"GIF87a",
    b"GIF89a\x09\0\x09\0\xF0\0\0",
    b"RIFF\xFF\0\0\0WEBPVP8 ",
    b"RIFF\xFF\0\0\0WEBPVP8L",
    b"RIFF\xFF\0\0\0WEBPVP8X",
    b"RIFF\xFF\0\0\0WAVEfmt ",
    b"BM",
    b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0",
    b"II*\0\x08\0\0\0",
    b"MM\0*\0\0\0\x08",
    b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0",
    b"\0\0\x01\0\x01\0\x10\x10",
    b"\0\0\0\x20ftypavif",
    b"\0\0\0\x20ftypheic",
    b"8BPS\0\x01",
    b"%PDF-1.7\n",
    b"%!PS-Adobe-3.0\n",
    b"PK\x03\x04",
    b"\x1F\x8B\x08",
    b"P6\n99999 99999\n255\n",
    b"qoif\0\0\xFF\xFF\0\0\xFF\xFF",
    b"\x76\x2f\x31\x01",
    b"#?RADIANCE\n",
    b"DDS ",
    b"farbfeld",
    b"\xFF\x0A",
    b"\x7FELF\x02\x01\x01",
    b"MZ\x90\0",
    b"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"99999\"/>",
];

fn page(r: &mut Random) -> Vec<u8> {
    let text = *r.pick(&[
        "<!DOCTYPE html><html><head><title>404</title></head><body>Not found</body></html>",
        "<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><x>&b;</x>",
        "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>",
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "{\"error\": \"rate limited\"}",
        "../../../../etc/passwd",
    ]);
    text.as_bytes().repeat(*r.pick(&[1, 1, 500]))
}

/// A ZIP's directory is found from its end, a picture from its beginning: a file may be both.
fn archive(r: &mut Random) -> Vec<u8> {
    let inside = any_sound(r);
    let [n0, n1, n2, n3] = (inside.len() as u32).to_le_bytes();
    let entry =
        [b"PK\x03\x04\x0A\0\0\0\0\0\0\0\0\0\0\0\0\0".as_slice(), &[n0, n1, n2, n3, n0, n1, n2, n3, 5, 0, 0, 0], b"a.jpg", inside].concat();
    let end = b"PK\x05\x06\0\0\0\0\x01\0\x01\0\x33\0\0\0\0\0\0\0\0\0";
    if r.one_in(3) { [entry.as_slice(), end].concat() } else { [any_sound(r), &entry, end].concat() }
}

fn document(r: &mut Random) -> Vec<u8> {
    let pdf = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n";
    let sound = sound_of(r, "jpg");
    match r.below(3) {
        // In a comment, so that both readers are content.
        0 => [&sound[..2], &super::jpeg::segment(0xFE, pdf), &sound[2..]].concat(),
        1 => [sound, pdf].concat(),
        _ => [pdf, sound].concat(),
    }
}
