//! Pictures: the same from the same seed, of any size, and each class like nothing else.

use image::imageops::{crop_imm, flip_horizontal, thumbnail};
use image::{RgbImage, imageops};
use lakelens_surfaces::{Class, Finish, Frame, Rng, Sketch, draw, draw_augmented, draw_jpeg, photograph_size};
use proptest::prelude::*;

/// Nothing done to a picture after it was drawn.
const PLAIN: Finish = Finish { blur: 0.0, noise: 0.0, brightness: 1.0, contrast: 1.0, saturation: 1.0, quality: 95 };

/// Those that a network is trained on and those that it is not.
fn every_class() -> Vec<Class> {
    [Class::all(), Class::unseen()].concat()
}

fn any_class() -> impl Strategy<Value = Class> {
    prop::sample::select(every_class())
}

/// The mean difference of two pictures' bytes.
fn difference(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    a.as_raw().iter().zip(b.as_raw()).map(|(&a, &b)| f64::from(a.abs_diff(b))).sum::<f64>() / a.len() as f64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_same_arguments_give_the_same_bytes(class in any_class(), seed: u64, width in 1u32..90, height in 1u32..90) {
        let file = draw_jpeg(class, seed, width, height).unwrap();
        prop_assert_eq!(&file, &draw_jpeg(class, seed, width, height).unwrap());
        prop_assert_eq!(draw(class, seed, width, height).unwrap().dimensions(), (width, height));
        prop_assert_eq!(draw_augmented(class, seed, width).unwrap(), draw_augmented(class, seed, width).unwrap());
    }

    #[test]
    fn another_seed_gives_another_picture(class in any_class(), seed: u64) {
        let (one, other) = (draw(class, seed, 64, 64).unwrap(), draw(class, seed.wrapping_add(1), 64, 64).unwrap());
        prop_assert!(difference(&one, &other) > 4.0);
    }

    #[test]
    fn photographs_have_ordinary_sizes(seed: u64) {
        let (width, height) = photograph_size(&mut Rng::new(&[seed]));
        prop_assert!((320..=480).contains(&width.min(height)) && (320..=640).contains(&width.max(height)));
    }

    #[test]
    fn a_frame_is_that_part_of_the_whole(class in any_class(), seed: u64) {
        let mut rng = Rng::new(&[seed]);
        let sketch = Sketch::new(class, &mut rng);
        let whole = sketch.shoot(Frame::WHOLE, &PLAIN, 128, 128, &mut rng);
        let frame = Frame { x: -0.125, y: 0.25, zoom: 0.5, mirrored: false };
        let part = sketch.shoot(frame, &PLAIN, 64, 64, &mut rng);
        prop_assert!(difference(&part, &crop_imm(&whole, 16, 64, 64, 64).to_image()) < 0.5);
        let mirrored = sketch.shoot(Frame { mirrored: true, ..frame }, &PLAIN, 64, 64, &mut rng);
        prop_assert!(difference(&flip_horizontal(&mirrored), &part) < 0.5);
    }
}

#[test]
fn every_class_draws_at_odd_sizes() {
    for class in every_class() {
        for (width, height) in [(1, 1), (7, 300), (300, 7), (1, 50), (224, 224)] {
            assert_eq!(draw(class, 3, width, height).unwrap().dimensions(), (width, height), "{}", class.label());
        }
        assert!(draw(class, 3, 0, 10).is_err() && draw(class, 3, 10, 70_000).is_err(), "no such JPEG");
    }
}

#[test]
fn labels_name_their_classes() {
    for (index, &class) in every_class().iter().enumerate() {
        assert_eq!(class.index(), index);
        assert_eq!(Class::from_label(class.label()), Some(class), "a label of its own");
    }
    assert!(Class::all().len() >= 24 && Class::unseen().len() >= 8);
    assert_eq!(Class::from_label("Gingham"), None);
}

/// Edges are softened by formula, not by drawing large and shrinking; this is the comparison with the latter. It also shows that a large picture, shrunk
/// as the pipeline does it, is the picture that the network was trained on.
#[test]
fn a_large_picture_shrunk_is_the_small_one() {
    for class in every_class() {
        for seed in 0..6 {
            let picture = |side| {
                let mut rng = Rng::new(&[seed, class.index() as u64]);
                let sketch = Sketch::new(class, &mut rng);
                sketch.shoot(Frame::WHOLE, &PLAIN, side, side, &mut rng)
            };
            let (small, other) = (picture(112), draw(class, seed + 100, 112, 112).unwrap());
            let shrunk = thumbnail(&picture(448), 112, 112); // the mean of 4 x 4 pixels
            let (same, different) = (difference(&small, &shrunk), difference(&small, &other));
            assert!(
                same < 8.0 && same < different / 6.0,
                "{}, seed {seed}: {same:.1} from itself, {different:.1} from another",
                class.label()
            );
        }
    }
}

/// How often each of the 256 local binary patterns (Ojala and others, 1996) occurs, at two scales: a description of texture that knows no colour.
fn texture(picture: &RgbImage) -> Vec<f32> {
    let grey = imageops::grayscale(picture);
    let mut counts = vec![0.0; 512];
    let around = [(-1i32, -1i32), (0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0)];
    for (scale, radius) in [(0, 1i32), (1, 4)] {
        for y in 4..grey.height() as i32 - 4 {
            for x in 4..grey.width() as i32 - 4 {
                let at = |dx: i32, dy: i32| grey.get_pixel((x + dx) as u32, (y + dy) as u32).0[0];
                let pattern = around.iter().fold(0, |bits, &(dx, dy)| bits << 1 | usize::from(at(dx * radius, dy * radius) > at(0, 0)));
                counts[scale * 256 + pattern] += 1.0f32;
            }
        }
    }
    counts.iter().map(|count| count.sqrt()).collect()
}

/// The nearest neighbour by texture alone is nearly always of the same class (by chance 1 in 28): classes differ in what they are, not in colour.
#[test]
fn classes_can_be_told_apart_without_colours() {
    let described = |seeds: std::ops::Range<u64>| -> Vec<(Class, Vec<f32>)> {
        let pictures = seeds.flat_map(|seed| Class::all().iter().map(move |&class| (class, seed)));
        pictures.map(|(class, seed)| (class, texture(&draw(class, seed, 96, 96).unwrap()))).collect()
    };
    let (known, asked) = (described(0..30), described(1000..1010));
    let mut right = vec![0; Class::all().len()];
    for (class, features) in &asked {
        let distance = |other: &[f32]| features.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        let nearest = known.iter().min_by(|a, b| distance(&a.1).total_cmp(&distance(&b.1))).unwrap();
        right[class.index()] += usize::from(nearest.0 == *class);
    }
    let all = right.iter().sum::<usize>() as f64 / asked.len() as f64;
    let each: Vec<String> = Class::all().iter().map(|class| format!("{} {}", class.label(), right[class.index()])).collect();
    assert!(all > 0.7, "{all:.3} right; of 10 each: {}", each.join(", "));
}
