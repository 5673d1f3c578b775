//! Draws pictures of surfaces: what Lakelens's bundled network is trained on, and what its demo labels.
//!
//! A picture is a function of its class, a seed and a size. One program draws for both, so that what the network meets in the demo is distributed as
//! what it learnt from. Patterns are formulas with edges as soft as a pixel is wide, and scale with the picture's short side: one drawn at 640 pixels and
//! shrunk looks like one drawn at 224.

mod augment;
mod bundled;
mod class;
mod finish;
mod fluid;
mod metal;
mod noise;
mod organic;
mod palette;
mod pattern;
mod printed;
mod rng;
mod stone;
pub mod stream;
mod tiled;
mod unseen;
mod view;
mod woven;

use image::{ImageError, RgbImage};

pub use augment::draw_augmented;
pub use bundled::MODEL;
pub use class::Class;
pub use finish::{Finish, blur, decode, jpeg, noisy};
pub use rng::Rng;
pub use view::Frame;

/// Draws a picture as a camera saves it, as a JPEG file. The same arguments give the same bytes.
///
/// # Errors
/// If a side is 0 or above 65,535, which JPEG cannot hold.
pub fn draw_jpeg(class: Class, seed: u64, width: u32, height: u32) -> Result<Vec<u8>, ImageError> {
    let mut rng = Rng::new(&[seed, class.index() as u64]);
    let sketch = Sketch::new(class, &mut rng);
    let finish = Finish::ordinary(&mut rng, width.min(height));
    jpeg(&sketch.shoot(Frame::WHOLE, &finish, width, height, &mut rng), finish.quality)
}

/// The picture that [`draw_jpeg`] gives, decoded: `width` by `height` pixels.
///
/// # Errors
/// As [`draw_jpeg`].
pub fn draw(class: Class, seed: u64, width: u32, height: u32) -> Result<RgbImage, ImageError> {
    decode(&draw_jpeg(class, seed, width, height)?)
}

/// A size as photographs have it: 320 to 480 pixels on the short side, at most 640 on the long one, upright or lying.
pub fn photograph_size(rng: &mut Rng) -> (u32, u32) {
    let short = rng.range(320.0, 481.0);
    let long = (short * [1.0, 4.0 / 3.0, 4.0 / 3.0, 1.5, 16.0 / 9.0][rng.below(5)]).min(640.0);
    if rng.chance(0.3) { (short as u32, long as u32) } else { (long as u32, short as u32) }
}

/// A surface and a view of it: what is drawn before it is known how large.
pub struct Sketch {
    pattern: pattern::Pattern,
    view: view::View,
}

impl Sketch {
    pub fn new(class: Class, rng: &mut Rng) -> Self {
        let kind = class.kind();
        Self { pattern: (kind.paint)(&mut rng.fork()), view: view::View::new(&mut rng.fork(), kind) }
    }

    /// The part `frame` of the picture in `width` by `height` pixels, with all of `finish` but its JPEG.
    pub fn shoot(&self, frame: Frame, finish: &Finish, width: u32, height: u32, rng: &mut Rng) -> RgbImage {
        let pixels = self.view.render(&self.pattern, frame, width as usize, height as usize);
        finish.develop(pixels, width, height, rng)
    }
}
