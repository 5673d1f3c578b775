//! The segments of a JPEG (ITU-T T.81, Annex B): where they begin and end, the frame header, the scan header.

use crate::preprocess::Failure;

/// Segments: marker and body. Entropy-coded data between them is passed over.
pub(super) struct Segments<'a> {
    pub(super) bytes: &'a [u8],
    /// Where the next segment is looked for.
    pub(super) at: usize,
}

impl<'a> Segments<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 2 }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // What stands between segments is skipped, as libjpeg does.
            self.at += memchr::memchr(0xFF, self.bytes.get(self.at..)?)?;
            while *self.bytes.get(self.at)? == 0xFF {
                self.at += 1;
            }
            let marker = self.bytes[self.at];
            self.at += 1;
            match marker {
                0x00 | 0x01 | 0xD0..=0xD8 => {}
                0xD9 => return Some((marker, &[])),
                _ => {
                    let length = usize::from(u16::from_be_bytes([*self.bytes.get(self.at)?, *self.bytes.get(self.at + 1)?]));
                    let body = self.bytes.get(self.at + 2..self.at + length)?;
                    self.at += length;
                    return Some((marker, body));
                }
            }
        }
    }
}

/// One colour component of the frame.
#[derive(Debug, Clone)]
pub(super) struct Component {
    pub(super) id: u8,
    /// Sampling factors.
    pub(super) h: usize,
    pub(super) v: usize,
    /// Number of its quantisation table.
    pub(super) table: usize,
    /// Samples across and down that belong to the picture.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Blocks across in memory: whole MCUs.
    pub(super) stride: usize,
}

/// The frame header.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) progressive: bool,
    pub(super) components: Vec<Component>,
    /// Largest sampling factors.
    pub(super) h_max: usize,
    pub(super) v_max: usize,
    /// MCUs across and down, of a scan that has all components.
    pub(super) across: usize,
    pub(super) down: usize,
}

impl Frame {
    /// # Errors
    /// Says what is wrong, or what is not supported (Pillow refuses most of it too: lossless, 12 bits, 2 components).
    pub(super) fn read(body: &[u8], progressive: bool) -> Result<Self, Failure> {
        let short = || Failure::corrupt("the JPEG's frame header is cut short");
        let head: &[u8; 6] = body.first_chunk().ok_or_else(short)?;
        let [precision, h1, h0, w1, w0, count] = *head;
        let (width, height) = (u32::from(u16::from_be_bytes([w1, w0])), u32::from(u16::from_be_bytes([h1, h0])));
        if precision != 8 {
            return Err(Failure::corrupt(format!("JPEG with {precision} bits a sample is not supported")));
        }
        if !matches!(count, 1 | 3 | 4) {
            return Err(Failure::corrupt(format!("JPEG with {count} components is not supported")));
        }
        if width == 0 || height == 0 {
            return Err(Failure::corrupt("the JPEG's width or height is 0"));
        }
        let table = body.get(6..6 + 3 * usize::from(count)).ok_or_else(short)?;
        let mut parts: Vec<[usize; 4]> =
            table.chunks_exact(3).map(|c| [c[0].into(), (c[1] >> 4).into(), (c[1] & 15).into(), c[2].into()]).collect();
        if parts.iter().any(|[_, h, v, q]| !(1..=4).contains(h) || !(1..=4).contains(v) || *q > 3) {
            return Err(Failure::corrupt("the JPEG's sampling factors are not between 1 and 4, or a table's number is above 3"));
        }
        // The factors of an only component mean nothing: its scans are not interleaved.
        if let [[_, h, v, _]] = parts.as_mut_slice() {
            (*h, *v) = (1, 1);
        }
        let (h_max, v_max) = parts.iter().fold((1, 1), |(a, b), [_, h, v, _]| (a.max(*h), b.max(*v)));
        if parts.iter().any(|[_, h, v, _]| h_max % h != 0 || v_max % v != 0) {
            return Err(Failure::corrupt("the JPEG's sampling factors have fractions as ratios, which is not supported"));
        }
        let (w, h) = (width as usize, height as usize);
        let (across, down) = (w.div_ceil(8 * h_max), h.div_ceil(8 * v_max));
        let components = parts
            .into_iter()
            .map(|[id, h_samp, v_samp, table]| Component {
                id: id as u8,
                h: h_samp,
                v: v_samp,
                table,
                width: (w * h_samp).div_ceil(h_max),
                height: (h * v_samp).div_ceil(v_max),
                stride: across * h_samp,
            })
            .collect();
        Ok(Self { width, height, progressive, components, h_max, v_max, across, down })
    }

    /// Whether coefficients must be kept until the last scan: in progressive files, and where the first scan leaves components out.
    pub(super) fn keeps_coefficients(&self, in_first_scan: usize) -> bool {
        self.progressive || in_first_scan != self.components.len()
    }

    /// Steps that all scans together may take, see [`Scan::steps`]. The usual progressive picture takes 240 a block. Pictures of up to a few megapixels
    /// may have as many scans as they like.
    pub(super) fn most_steps(&self) -> usize {
        let blocks: usize = self.components.iter().map(|c| c.stride * c.v * self.down).sum();
        (512 * blocks).max(1 << 28)
    }

    /// Bytes that decoding takes beside the file: the picture, its entropy-coded data without stuffing, one row of MCUs, and all coefficients
    /// where they must be kept.
    pub(super) fn bytes(&self, in_first_scan: usize, file: usize) -> usize {
        let picture = self.width as usize * self.height as usize * 3;
        let blocks: usize = self.components.iter().map(|c| c.stride * c.v * self.down).sum();
        let kept = if self.keeps_coefficients(in_first_scan) { blocks * 64 * size_of::<i16>() } else { 0 };
        let rows: usize = self.components.iter().map(|c| c.stride * 8 * (8 * c.v + 1)).sum();
        let converting = self.across * 8 * self.h_max * (self.components.len() + 2 + 3);
        // Huffman tables, the EXIF block.
        picture + kept + rows + converting + file + (192 << 10)
    }
}

/// A component's part in a scan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// Its place in the frame header.
    pub(super) component: usize,
    /// Numbers of its Huffman tables.
    pub(super) dc: usize,
    pub(super) ac: usize,
}

/// A scan header.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) parts: Vec<Part>,
    /// First and last coefficient, in zigzag order.
    pub(super) first: usize,
    pub(super) last: usize,
    /// Bits that earlier scans left, and that this one leaves, to later ones.
    pub(super) high: u32,
    pub(super) low: u32,
}

impl Scan {
    /// # Errors
    /// What the standard does not allow.
    pub(super) fn read(body: &[u8], frame: &Frame) -> Result<Self, Failure> {
        let wrong = || Failure::corrupt("a scan header of the JPEG is wrong");
        let (&count, rest) = body.split_first().ok_or_else(wrong)?;
        let count = usize::from(count);
        let (table, tail) = rest.split_at_checked(2 * count).ok_or_else(wrong)?;
        let &[first, last, bits] = tail.first_chunk().ok_or_else(wrong)?;
        let mut parts: Vec<Part> = Vec::with_capacity(count.min(4));
        for &[id, tables] in table.as_chunks().0 {
            // Of components with the same identifier each is meant once, in turn.
            let free = |(i, c): (usize, &Component)| (c.id == id && parts.iter().all(|p| p.component != i)).then_some(i);
            let component = frame.components.iter().enumerate().find_map(free).ok_or_else(wrong)?;
            let (dc, ac) = (usize::from(tables >> 4), usize::from(tables & 15));
            if dc > 3 || ac > 3 {
                return Err(wrong());
            }
            parts.push(Part { component, dc, ac });
        }
        let blocks: usize = parts.iter().map(|p| frame.components[p.component].h * frame.components[p.component].v).sum();
        if parts.is_empty() || (parts.len() > 1 && blocks > 10) {
            return Err(wrong());
        }
        let (mut first, mut last) = (usize::from(first), usize::from(last));
        let (mut high, mut low) = (u32::from(bits >> 4), u32::from(bits & 15));
        if frame.progressive {
            let spectrum = if first == 0 { last == 0 } else { first <= last && last < 64 && parts.len() == 1 };
            if !spectrum || low > 13 || (high != 0 && low + 1 != high) {
                return Err(wrong());
            }
        } else {
            (first, last, high, low) = (0, 63, 0, 0);
        }
        Ok(Self { parts, first, last, high, low })
    }

    /// Coefficients that the scan visits, and what a block costs beside them, which is about as much as 7.
    pub(super) fn steps(&self, frame: &Frame) -> usize {
        let components = self.parts.iter().map(|part| &frame.components[part.component]);
        components.map(|c| c.stride * c.v * frame.down * (self.last - self.first + 8)).sum()
    }
}
