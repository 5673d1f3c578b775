//! `surfaces`: pictures of surfaces as files, as a stream for a trainer, or on a sheet to look at.

use std::error::Error;
use std::io::{BufWriter, ErrorKind, Write, stdout};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use image::RgbImage;
use image::imageops::replace;
use lakelens_surfaces::stream::{self, Stream};
use lakelens_surfaces::{Class, Rng, blur, decode, draw, draw_augmented, draw_jpeg, jpeg, noisy, photograph_size};

/// Draws pictures of surfaces: what Lakelens's bundled network is trained on.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes JPEG files into a folder for each class: OUT/gingham/0.jpg and so on
    Write {
        #[arg(long)]
        out: PathBuf,
        #[arg(long, default_value_t = 10)]
        per_class: u64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// WIDTHxHEIGHT [default: sizes as photographs have them, 320 to 640 pixels a side]
        #[arg(long, value_parser = size)]
        size: Option<(u32, u32)>,
        /// Makes them harder to tell apart, in this order: a Gaussian blur of 3 pixels at 224, Gaussian noise of 25 of 255, JPEG of quality 20
        #[arg(long, value_enum, value_delimiter = ',')]
        harden: Vec<Hardening>,
        #[command(flatten)]
        classes: Classes,
    },
    /// Writes raw pictures to standard output for a trainer; the documentation of the module `stream` has the format
    Stream {
        #[arg(long)]
        count: u64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The first picture's number: to go on where another stream stopped
        #[arg(long, default_value_t = 0)]
        start: u64,
        /// Width and height of each picture in pixels
        #[arg(long, default_value_t = 224)]
        side: u32,
        /// Crops, blurs, noise, strong compression and other colours, for training
        #[arg(long)]
        augment: bool,
        #[arg(long, default_value = "1")]
        threads: NonZeroUsize,
        #[command(flatten)]
        classes: Classes,
    },
    /// Draws a contact sheet: a row for each class
    Sheet {
        /// A .png or .jpg
        #[arg(long)]
        out: PathBuf,
        #[arg(long, default_value_t = 8)]
        per_class: u32,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(long, default_value_t = 112)]
        side: u32,
        #[arg(long)]
        augment: bool,
        #[command(flatten)]
        classes: Classes,
    },
    /// Prints the labels in order
    Labels {
        /// Those that the network is not trained on
        #[arg(long)]
        unseen: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Hardening {
    Blur,
    Noise,
    Jpeg,
}

/// A finished picture, hardened, as a JPEG file. Where JPEG is not what hardens it, its quality is so high that it takes no part.
fn harden(bytes: &[u8], how: &[Hardening], seed: u64) -> Result<Vec<u8>, image::ImageError> {
    let mut picture = decode(bytes)?;
    if how.contains(&Hardening::Blur) {
        let short = picture.width().min(picture.height());
        picture = blur(&picture, 3.0 * short as f32 / 224.0);
    }
    if how.contains(&Hardening::Noise) {
        picture = noisy(&picture, 25.0, seed);
    }
    jpeg(&picture, if how.contains(&Hardening::Jpeg) { 20 } else { 98 })
}

#[derive(clap::Args)]
struct Classes {
    /// Labels with commas between them, or a number of classes, evenly chosen [default: all that the network is trained on]
    #[arg(long = "classes", value_name = "A,B|N", value_parser = classes)]
    chosen: Option<Choice>,
    /// Those that the network is not trained on
    #[arg(long, conflicts_with = "chosen")]
    unseen: bool,
}

/// A list that clap takes for one value.
type Choice = std::sync::Arc<[Class]>;

impl Classes {
    fn list(&self) -> Vec<Class> {
        let all = if self.unseen { Class::unseen() } else { Class::all() };
        self.chosen.as_ref().map_or_else(|| all.to_vec(), |chosen| chosen.to_vec())
    }
}

fn classes(text: &str) -> Result<Choice, String> {
    let all = Class::all();
    if let Ok(count) = text.parse::<usize>() {
        if !(1..=all.len()).contains(&count) {
            return Err(format!("there are {} classes; ask for 1 to {}", all.len(), all.len()));
        }
        return Ok((0..count).map(|i| all[i * all.len() / count]).collect());
    }
    let find =
        |label: &str| Class::from_label(label.trim()).ok_or_else(|| format!("no class is called {label:?}; `surfaces labels` lists them"));
    text.split(',').map(find).collect()
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let side = |text: &str| text.parse().ok().filter(|side| (1..=65_535).contains(side));
    let sides = text.split_once('x').and_then(|(width, height)| side(width).zip(side(height)));
    sides.ok_or_else(|| "give WIDTHxHEIGHT in pixels, 1 to 65535 each, as in 640x480".to_owned())
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("surfaces: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Write { out, per_class, seed, size, harden: how, classes } => {
            for class in classes.list() {
                let folder = out.join(class.label());
                std::fs::create_dir_all(&folder).map_err(|error| format!("cannot make the folder {}: {error}", folder.display()))?;
                for number in 0..per_class {
                    let mut rng = Rng::new(&[seed, number, class.index() as u64]);
                    let (width, height) = size.unwrap_or_else(|| photograph_size(&mut rng));
                    let path = folder.join(format!("{number}.jpg"));
                    let mut bytes = draw_jpeg(class, rng.bits(), width, height)?;
                    if !how.is_empty() {
                        bytes = harden(&bytes, &how, rng.bits())?;
                    }
                    std::fs::write(&path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
                }
            }
        }
        Command::Stream { count, seed, start, side, augment, threads, classes } => {
            let begun = Instant::now();
            let stream = Stream { classes: classes.list(), seed, start, count, side, augment };
            match stream.write(threads, &mut BufWriter::with_capacity(1 << 20, stdout().lock())) {
                Err(stream::Error::Io(error)) if error.kind() == ErrorKind::BrokenPipe => return Ok(()), // the reader has enough
                result => result?,
            }
            let seconds = begun.elapsed().as_secs_f64();
            eprintln!(
                "{count} pictures of {side} x {side} in {seconds:.2} s: {:.0} a second with {threads} threads",
                count as f64 / seconds
            );
        }
        Command::Sheet { out, per_class, seed, side, augment, classes } => {
            let (classes, step) = (classes.list(), side + 4);
            let mut sheet = RgbImage::from_pixel(per_class * step, classes.len() as u32 * step, image::Rgb([255; 3]));
            for (row, &class) in classes.iter().enumerate() {
                for column in 0..per_class {
                    let seed = Rng::new(&[seed, u64::from(column)]).bits();
                    let picture = if augment { draw_augmented(class, seed, side)? } else { draw(class, seed, side, side)? };
                    replace(&mut sheet, &picture, i64::from(column * step), row as i64 * i64::from(step));
                }
            }
            sheet.save(&out).map_err(|error| format!("cannot write {}: {error}", out.display()))?;
        }
        Command::Labels { unseen } => {
            for class in if unseen { Class::unseen() } else { Class::all() } {
                writeln!(stdout(), "{}", class.label())?;
            }
        }
    }
    Ok(())
}
