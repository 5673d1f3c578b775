//! From segments to a picture.

use super::bits::Bits;
use super::colour::Model;
use super::header::{Frame, Part, Scan, Segments};
use super::huffman::Table;
use super::rows::Rows;
use super::scan::{self, Block, ZIGZAG};
use super::{frame_header, idct, standard};
use crate::preprocess::reader::Watch;
use crate::preprocess::{Failure, Header, Picture};

/// Decodes to RGB. The EXIF block comes along.
///
/// Truncation is what Pillow makes of it: every byte up to the end-of-image marker must be there, what follows does not matter. Unlike
/// libjpeg, which goes on with a warning, entropy-coded data that cannot be decoded is an error: half a picture of noise is no picture.
pub(in crate::preprocess) fn decode(bytes: &[u8], expected: &Header, watch: &Watch) -> Result<Picture, Failure> {
    let mut decoder = Decoder {
        segments: Segments::new(bytes),
        frame: None,
        tables: Tables::default(),
        jfif: false,
        adobe: None,
        exif: None,
        bits: Bits::default(),
        picture: None,
        steps: 0,
        watch,
    };
    decoder.run(expected)
}

/// What segments before a scan define for it.
#[derive(Debug, Default)]
struct Tables {
    /// In zigzag order.
    quant: [Option<[u16; 64]>; 4],
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
    /// MCUs between restart markers; 0 if there are none.
    restart: usize,
}

impl Tables {
    fn read_quant(&mut self, mut body: &[u8]) -> Result<(), Failure> {
        let wrong = || Failure::corrupt("a quantisation table of the JPEG is wrong");
        while let Some((&head, rest)) = body.split_first() {
            let wide = head >> 4 != 0;
            let slot = self.quant.get_mut(usize::from(head & 15)).ok_or_else(wrong)?;
            let (values, rest) = rest.split_at_checked(if wide { 128 } else { 64 }).ok_or_else(wrong)?;
            let mut table = [0; 64];
            for (i, out) in table.iter_mut().enumerate() {
                *out = if wide { u16::from_be_bytes([values[2 * i], values[2 * i + 1]]) } else { values[i].into() };
            }
            *slot = Some(table);
            body = rest;
        }
        Ok(())
    }

    fn read_huffman(&mut self, mut body: &[u8]) -> Result<(), Failure> {
        let wrong = || Failure::corrupt("a Huffman table of the JPEG is wrong");
        while let Some((&head, rest)) = body.split_first() {
            let tables = match head >> 4 {
                0 => &mut self.dc,
                1 => &mut self.ac,
                _ => return Err(wrong()),
            };
            let slot = tables.get_mut(usize::from(head & 15)).ok_or_else(wrong)?;
            let (counts, rest) = rest.split_first_chunk::<16>().ok_or_else(wrong)?;
            let total = counts.iter().map(|&n| usize::from(n)).sum();
            let (symbols, rest) = rest.split_at_checked(total).filter(|_| total <= 256).ok_or_else(wrong)?;
            *slot = Some(Table::new(counts, symbols)?);
            body = rest;
        }
        Ok(())
    }

    /// The tables that a part of a scan uses, where the standard's stand in for missing ones, as with libjpeg.
    fn provide(&mut self, part: Part, dc: bool, ac: bool) -> Result<(), Failure> {
        let missing = || Failure::corrupt("the JPEG has a scan without its Huffman table");
        for (needed, is_dc, number) in [(dc, true, part.dc), (ac, false, part.ac)] {
            let slot = if is_dc { &mut self.dc[number] } else { &mut self.ac[number] };
            if needed && slot.is_none() {
                *slot = Some(standard::table(is_dc, number).ok_or_else(missing)??);
            }
        }
        if dc && !self.dc[part.dc].as_ref().is_some_and(Table::fits_dc) {
            return Err(Failure::corrupt("a Huffman table of the JPEG is wrong"));
        }
        Ok(())
    }
}

/// What becomes of the first and all other scans.
enum Building {
    /// Every scan adds to the coefficients, component by component.
    Coefficients { blocks: Vec<Vec<Block>>, quant: Vec<Option<[u16; 64]>>, model: Model },
    /// One scan had everything.
    Done(Vec<u8>),
}

struct Decoder<'a> {
    segments: Segments<'a>,
    frame: Option<Frame>,
    tables: Tables,
    jfif: bool,
    /// Adobe's word on what the components mean.
    adobe: Option<u8>,
    exif: Option<Vec<u8>>,
    bits: Bits,
    picture: Option<Building>,
    /// Steps of all scans so far.
    steps: usize,
    watch: &'a Watch,
}

fn truncated() -> Failure {
    Failure::corrupt("the file is truncated: its end-of-image marker is missing")
}

impl Decoder<'_> {
    fn run(&mut self, expected: &Header) -> Result<Picture, Failure> {
        loop {
            let (marker, body) = self.segments.next().ok_or_else(truncated)?;
            match marker {
                0xD9 => break,
                0xDA => self.scan(body, expected)?,
                0xDB => self.tables.read_quant(body)?,
                0xC4 => self.tables.read_huffman(body)?,
                0xDD => {
                    let &[high, low] = body.first_chunk().ok_or_else(|| Failure::corrupt("the JPEG's restart interval is cut short"))?;
                    self.tables.restart = u16::from_be_bytes([high, low]).into();
                }
                0xE0 if body.len() >= 12 && body.starts_with(b"JFIF\0") => self.jfif = true,
                0xEE if body.len() >= 12 && body.starts_with(b"Adobe") => self.adobe = Some(body[11]),
                0xE1 if self.exif.is_none() => self.exif = body.strip_prefix(b"Exif\0\0").map(<[u8]>::to_vec),
                _ => frame_header(marker, body, &mut self.frame)?,
            }
        }
        let nothing = || Failure::corrupt("the JPEG has no picture");
        let frame = self.frame.as_ref().ok_or_else(nothing)?;
        let pixels = match self.picture.take().ok_or_else(nothing)? {
            Building::Done(pixels) => pixels,
            Building::Coefficients { blocks, quant, model } => reconstruct(frame, &blocks, &quant, model, self.watch)?,
        };
        Ok(Picture { pixels, width: frame.width, height: frame.height, exif: self.exif.take() })
    }

    /// What the components mean, as libjpeg sees it.
    fn model(&self, frame: &Frame) -> Model {
        let ids: Vec<u8> = frame.components.iter().map(|c| c.id).collect();
        let plain = match (ids.len(), self.adobe) {
            (3, _) if self.jfif => false,
            (3 | 4, Some(transform)) => transform == 0,
            (3, None) => ids == *b"RGB",
            (count, _) => count == 4,
        };
        if plain { Model::Rgb } else { Model::YCbCr }
    }

    fn scan(&mut self, body: &[u8], expected: &Header) -> Result<(), Failure> {
        let frame = self.frame.take().ok_or_else(|| Failure::corrupt("the JPEG has no frame header before its first scan"))?;
        let result = self.scan_of(&frame, body, expected);
        self.frame = Some(frame);
        result
    }

    fn scan_of(&mut self, frame: &Frame, body: &[u8], expected: &Header) -> Result<(), Failure> {
        let scan = Scan::read(body, frame)?;
        if self.picture.is_none() {
            let needed = frame.bytes(scan.parts.len(), self.segments.bytes.len());
            if (frame.width, frame.height) != (expected.width, expected.height) || needed > expected.decode_bytes {
                return Err(Failure::corrupt("the JPEG's headers contradict each other"));
            }
            self.bits.reserve(self.segments.bytes.len() - self.segments.at);
        }
        // A sequential picture is complete with its first scan of all components; libjpeg passes over what follows too.
        if matches!(self.picture, Some(Building::Done(_))) {
            return Ok(());
        }
        self.steps = self.steps.saturating_add(scan.steps(frame));
        if self.steps > frame.most_steps() {
            return Err(Failure::corrupt("the JPEG's picture is coded over and over, in more scans than any encoder makes"));
        }
        let (dc, ac) = (scan.first == 0 && scan.high == 0, scan.last > 0);
        for &part in &scan.parts {
            self.tables.provide(part, dc, ac)?;
        }
        if self.picture.is_none() && !frame.keeps_coefficients(scan.parts.len()) {
            let pixels = self.only_scan(frame, &scan)?;
            self.picture = Some(Building::Done(pixels));
            return Ok(());
        }
        let model = self.model(frame);
        let (mut blocks, mut quant, model) = match self.picture.take() {
            Some(Building::Coefficients { blocks, quant, model }) => (blocks, quant, model),
            _ => {
                let blocks = frame.components.iter().map(|c| vec![[0; 64]; c.stride * c.v * frame.down]).collect();
                (blocks, vec![None; frame.components.len()], model)
            }
        };
        for part in &scan.parts {
            // The table that stood in the file at a component's first scan counts.
            let number = frame.components[part.component].table;
            quant[part.component] = quant[part.component].or(self.tables.quant[number]);
        }
        self.scan_into(frame, &scan, &mut blocks)?;
        self.picture = Some(Building::Coefficients { blocks, quant, model });
        Ok(())
    }

    /// Decodes a scan that has everything, straight to pixels.
    fn only_scan(&mut self, frame: &Frame, scan: &Scan) -> Result<Vec<u8>, Failure> {
        let mut pixels = vec![0; frame.width as usize * frame.height as usize * 3];
        let mut rows = Rows::new(frame, self.model(frame));
        let no_table = || Failure::corrupt("the JPEG has a scan without its table");
        let parts = scan.parts.iter().map(|p| {
            let component = &frame.components[p.component];
            let quant = self.tables.quant[component.table].as_ref()?;
            Some((p.component, component.h, component.v, self.tables.dc[p.dc].as_ref()?, self.tables.ac[p.ac].as_ref()?, quant))
        });
        let parts: Vec<_> = parts.collect::<Option<_>>().ok_or_else(no_table)?;
        let mut data = Entropy::begin(&mut self.segments, &mut self.bits, self.tables.restart)?;
        let mut means = [0; 4];
        for mcu_row in 0..frame.down {
            in_time(self.watch)?;
            for mcu in 0..frame.across {
                if data.restarts()? {
                    means = [0; 4];
                }
                for &(component, h, v, dc, ac, quant) in &parts {
                    for y in 0..v {
                        for x in 0..h {
                            let mut block = [0; 64];
                            let count = scan::sequential(data.bits, dc, ac, &mut means[component], quant, &mut block)?;
                            let (out, stride) = rows.block(component, mcu * h + x, y);
                            idct::inverse(&block, count, out, stride);
                        }
                    }
                }
            }
            data.check()?;
            rows.finish(mcu_row, &mut pixels);
        }
        Ok(pixels)
    }

    /// Decodes one of several scans.
    fn scan_into(&mut self, frame: &Frame, scan: &Scan, blocks: &mut [Vec<Block>]) -> Result<(), Failure> {
        let mut data = Entropy::begin(&mut self.segments, &mut self.bits, self.tables.restart)?;
        let (mut means, mut blank) = ([0; 4], 0);
        let tables = &self.tables;
        let one = |bits: &mut Bits, part: &Part, means: &mut [i32; 4], blank: &mut u32, block: &mut Block| {
            let no_table = || Failure::corrupt("the JPEG has a scan without its Huffman table");
            let mean = &mut means[part.component];
            match (frame.progressive, scan.first == 0, scan.high == 0) {
                (true, true, false) => scan::later_dc(bits, scan.low, block),
                (true, true, true) => scan::first_dc(bits, tables.dc[part.dc].as_ref().ok_or_else(no_table)?, mean, scan.low, block)?,
                (true, false, first) => {
                    let ac = tables.ac[part.ac].as_ref().ok_or_else(no_table)?;
                    if first { scan::first_ac(bits, ac, scan, blank, block)? } else { scan::later_ac(bits, ac, scan, blank, block)? }
                }
                (false, ..) => {
                    let (dc, ac) = (tables.dc[part.dc].as_ref().ok_or_else(no_table)?, tables.ac[part.ac].as_ref().ok_or_else(no_table)?);
                    *block = [0; 64];
                    scan::sequential(bits, dc, ac, mean, &[1; 64], block)?;
                }
            }
            Ok::<(), Failure>(())
        };
        if let [part] = scan.parts.as_slice() {
            let component = &frame.components[part.component];
            let (across, down) = scan::blocks(component);
            for y in 0..down {
                in_time(self.watch)?;
                for x in 0..across {
                    if data.restarts()? {
                        (means, blank) = ([0; 4], 0);
                    }
                    one(data.bits, part, &mut means, &mut blank, &mut blocks[part.component][y * component.stride + x])?;
                }
                data.check()?;
            }
            return Ok(());
        }
        for mcu_row in 0..frame.down {
            in_time(self.watch)?;
            for mcu in 0..frame.across {
                if data.restarts()? {
                    (means, blank) = ([0; 4], 0);
                }
                for part in &scan.parts {
                    let component = &frame.components[part.component];
                    for y in 0..component.v {
                        for x in 0..component.h {
                            let at = (mcu_row * component.v + y) * component.stride + mcu * component.h + x;
                            one(data.bits, part, &mut means, &mut blank, &mut blocks[part.component][at])?;
                        }
                    }
                }
            }
            data.check()?;
        }
        Ok(())
    }
}

fn in_time(watch: &Watch) -> Result<(), Failure> {
    if watch.expired() { Err(Failure::corrupt("out of time")) } else { Ok(()) }
}

/// The entropy-coded segments of a scan.
struct Entropy<'s, 'a> {
    segments: &'s mut Segments<'a>,
    bits: &'s mut Bits,
    interval: usize,
    /// MCUs until the next restart marker.
    left: usize,
    /// That marker's number.
    number: u8,
}

impl<'s, 'a> Entropy<'s, 'a> {
    fn begin(segments: &'s mut Segments<'a>, bits: &'s mut Bits, interval: usize) -> Result<Self, Failure> {
        segments.at = bits.load(segments.bytes, segments.at).ok_or_else(truncated)?;
        Ok(Self { segments, bits, interval, left: interval, number: 0 })
    }

    /// Called before each MCU: whether one begins after a restart marker.
    #[inline(always)]
    fn restarts(&mut self) -> Result<bool, Failure> {
        if self.interval == 0 {
            return Ok(false);
        }
        if self.left > 0 {
            self.left -= 1;
            return Ok(false);
        }
        self.restart()
    }

    fn restart(&mut self) -> Result<bool, Failure> {
        self.check()?;
        if self.segments.bytes.get(self.segments.at + 1) != Some(&(0xD0 + self.number)) {
            return Err(Failure::corrupt("the JPEG's entropy-coded data is damaged: a restart marker is missing"));
        }
        self.segments.at = self.bits.load(self.segments.bytes, self.segments.at + 2).ok_or_else(truncated)?;
        self.number = (self.number + 1) % 8;
        self.left = self.interval - 1;
        Ok(true)
    }

    /// # Errors
    /// There was less data than blocks.
    fn check(&self) -> Result<(), Failure> {
        if self.bits.overrun() {
            return Err(Failure::corrupt("the JPEG's entropy-coded data ends early"));
        }
        Ok(())
    }
}

/// From coefficients to pixels.
fn reconstruct(frame: &Frame, blocks: &[Vec<Block>], quant: &[Option<[u16; 64]>], model: Model, watch: &Watch) -> Result<Vec<u8>, Failure> {
    // Of a component without a scan all is 0, whatever its table.
    let tables: Vec<Block> = quant
        .iter()
        .map(|quant| {
            let mut natural = [0; 64];
            for (&at, q) in ZIGZAG.iter().zip(quant.unwrap_or([0; 64])) {
                natural[usize::from(at)] = q as i16;
            }
            natural
        })
        .collect();
    let mut pixels = vec![0; frame.width as usize * frame.height as usize * 3];
    let mut rows = Rows::new(frame, model);
    for mcu_row in 0..frame.down {
        in_time(watch)?;
        for (i, component) in frame.components.iter().enumerate() {
            for y in 0..component.v {
                let at = (mcu_row * component.v + y) * component.stride;
                for (x, block) in blocks[i][at..at + component.stride].iter().enumerate() {
                    let mut scaled = *block;
                    for (value, q) in scaled.iter_mut().zip(&tables[i]) {
                        *value = value.wrapping_mul(*q);
                    }
                    let (out, stride) = rows.block(i, x, y);
                    idct::inverse(&scaled, if block[1..] == [0; 63] { 1 } else { 64 }, out, stride);
                }
            }
        }
        rows.finish(mcu_row, &mut pixels);
    }
    Ok(pixels)
}
