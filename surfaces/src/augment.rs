//! Pictures to train on: harder than ordinary ones, so that a network learns what a surface is and not how sharp or clean its picture was.

use image::{ImageError, RgbImage};

use crate::finish::{Finish, decode, jpeg};
use crate::rng::Rng;
use crate::view::Frame;
use crate::{Class, Sketch};

/// A square picture of `side` pixels for training. To an ordinary picture come
///
/// - always a random resized crop: 0.35 to 1 of the area, anywhere in the picture, drawn at its own scale; mirrored in half of all cases;
/// - with probability 0.6 other brightness (0.7 to 1.3 times), contrast (0.6 to 1.3) and saturation (0.3 to 1.5; in one of 16 none at all);
/// - with 0.35 a Gaussian blur, sigma up to 4 pixels at 224;
/// - with 0.4 Gaussian noise, sigma up to 35 of 255;
/// - with 0.4 a JPEG quality of 10 to 55.
///
/// # Errors
/// If `side` is 0 or above 65,535.
pub fn draw_augmented(class: Class, seed: u64, side: u32) -> Result<RgbImage, ImageError> {
    let mut rng = Rng::new(&[seed, class.index() as u64, 1]);
    let sketch = Sketch::new(class, &mut rng);
    let zoom = rng.range(0.35, 1.0).sqrt();
    let room = (1.0 - zoom) / 2.0;
    let frame = Frame { x: rng.range(-room, room), y: rng.range(-room, room), zoom, mirrored: rng.chance(0.5) };
    let mut finish = Finish::ordinary(&mut rng, side);
    if rng.chance(0.6) {
        finish.brightness *= rng.range(0.7, 1.3);
        finish.contrast *= rng.range(0.6, 1.3);
        finish.saturation *= if rng.chance(1.0 / 16.0) { 0.0 } else { rng.range(0.3, 1.5) };
    }
    if rng.chance(0.35) {
        finish.blur = finish.blur.max(4.0 * rng.unit() * side as f32 / 224.0);
    }
    if rng.chance(0.4) {
        finish.noise = finish.noise.max(35.0 * rng.unit());
    }
    if rng.chance(0.4) {
        finish.quality = rng.range(10.0, 56.0) as u8;
    }
    decode(&jpeg(&sketch.shoot(frame, &finish, side, side, &mut rng), finish.quality)?)
}
