//! Files that torch wrote: `scripts/golden/torch_files.py` made them, and says what is in them.

use std::io::Cursor;
use std::path::PathBuf;

use half::{bf16, f16};
use proptest::prelude::*;
use serde_json::Value;

use super::{Kind, Tensor, Tensors, parse, read};

/// The versions of torch that wrote them.
const WRITERS: [&str; 2] = ["1.13.0a0", "2.15.0"];

fn golden(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/golden/torch", name].iter().collect()
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(golden(name)).unwrap()
}

fn of(bytes: &[u8]) -> Result<Tensors, String> {
    parse(&mut Cursor::new(bytes), bytes.len() as u64)
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.bytes.chunks_exact(tensor.kind.bytes()).map(|b| number(tensor.kind, b)).collect()
}

fn number(kind: Kind, b: &[u8]) -> f64 {
    match kind {
        Kind::F64 => f64::from_le_bytes(b.try_into().unwrap()),
        Kind::F32 => f32::from_le_bytes(b.try_into().unwrap()).into(),
        Kind::F16 => f16::from_le_bytes(b.try_into().unwrap()).into(),
        Kind::Bf16 => bf16::from_le_bytes(b.try_into().unwrap()).into(),
        Kind::I64 => i64::from_le_bytes(b.try_into().unwrap()) as f64,
        Kind::U8 | Kind::Bool => b[0].into(),
        other => panic!("{other:?} is in no golden file"),
    }
}

#[test]
fn what_torch_wrote_is_read_to_the_bit_whatever_its_version_and_form() {
    let expected: Value = serde_json::from_slice(&bytes("expected.json")).unwrap();
    let expected = expected.as_object().unwrap();
    for version in WRITERS {
        for form in ["", "-old", "-protocol4", "-checkpoint"] {
            let name = format!("{version}{form}.pth");
            let tensors = read(&golden(&name)).unwrap();
            assert_eq!(
                tensors.keys().collect::<Vec<_>>(),
                expected.keys().collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
            );
            for (key, tensor) in &tensors {
                let want = &expected[key];
                let numbers: Vec<f64> = want["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap_or_default()).collect();
                let numbers = match tensor.kind {
                    Kind::Bool => {
                        want["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap_or_else(|| f64::from(v == true))).collect()
                    }
                    _ => numbers,
                };
                assert_eq!(values(tensor), numbers, "{name}: {key}");
                let dims: Vec<u64> = want["dims"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap()).collect();
                assert_eq!(tensor.dims.iter().map(|d| *d as u64).collect::<Vec<_>>(), dims, "{name}: {key}");
            }
        }
    }
}

#[test]
fn a_file_that_runs_a_function_is_refused_by_the_functions_name() {
    for name in ["hostile.pth", "hostile-old.pth"] {
        let error = read(&golden(name)).unwrap_err().to_string();
        assert!(error.contains("posix.system") && error.contains(name), "{error}");
    }
    assert!(!std::path::Path::new("lakelens-was-here").exists());
    for version in WRITERS {
        let error = of(&bytes(&format!("{version}-module.pth"))).unwrap_err();
        assert!(error.contains("torch.nn.modules.linear.Linear") && error.contains("state_dict()"), "{error}");
        let error = of(&bytes(&format!("{version}-script.pt"))).unwrap_err();
        assert!(error.contains("TorchScript"), "{error}");
    }
}

#[test]
fn a_file_that_was_cut_off_is_refused_wherever_it_was_cut() {
    for form in ["", "-old"] {
        let whole = bytes(&format!("2.15.0{form}.pth"));
        for length in 0..whole.len() {
            assert!(of(&whole[..length]).is_err(), "cut to {length} of {}", whole.len());
        }
    }
}

/// A pickle in torch's old form, with one storage of `elements` floats under the key `k`.
fn old_form(program: &[u8], elements: u64, storage: &[u8]) -> Vec<u8> {
    let whole = bytes("2.15.0-old.pth");
    // The magic number, the version and the machine's facts, up to the pickle of the object.
    let mut at = 0;
    for _ in 0..3 {
        at += super::pickle::read(&whole[at..]).unwrap().end;
    }
    [&whole[..at], program, b"\x80\x02]X\x01\0\0\0ka.", &elements.to_le_bytes(), storage].concat()
}

/// The instructions for `{"t": tensor}` cut from a storage of `length` floats.
fn one_tensor(length: u64, offset: u64, dims: &[u64], strides: &[u64]) -> Vec<u8> {
    let number = |n: &u64| [&[0x8a, 8][..], &n.to_le_bytes()].concat();
    let tuple = |numbers: &[u64]| [b"(", &numbers.iter().flat_map(number).collect::<Vec<_>>()[..], b"t"].concat();
    [
        b"\x80\x02}X\x01\0\0\0tctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0kX\x03\0\0\0cpu",
        &number(&length)[..],
        b"NtQ",
        &number(&offset),
        &tuple(dims),
        &tuple(strides),
        b"\x89ccollections\nOrderedDict\n)RtRs.",
    ]
    .concat()
}

#[test]
fn tensors_that_reach_out_of_their_storage_or_are_larger_than_it_are_refused() {
    let four = [0u8; 16];
    let cut = |length, offset, dims: &[u64], strides: &[u64]| of(&old_form(&one_tensor(length, offset, dims, strides), length, &four));
    assert_eq!(cut(4, 1, &[3], &[1]).unwrap()["t"].dims, [3]);
    let big = i64::MAX as u64;
    for (length, offset, dims, strides) in [
        (4, 1, &[4][..], &[1][..]),
        (4, 0, &[2, 3], &[3, 1]),
        (4, 0, &[1 << 40], &[0]),
        (4, 0, &[2], &[big]),
        (4, big, &[1], &[1]),
        (4, 0, &[big, big], &[1, 1]),
        (4, 0, &[2, 2], &[1]),
        (4, 4, &[], &[]),
        (big, 0, &[big], &[1]),
        (1 << 40, 0, &[1 << 40], &[1]),
    ] {
        let error = cut(length, offset, dims, strides).unwrap_err();
        assert!(!error.is_empty() && error.len() < 300, "{dims:?}: {error}");
    }
    assert!(of(&old_form(&one_tensor(4, 0, &[4], &[1]), 3, &four)).unwrap_err().contains("12 bytes where 16"));
}

#[test]
fn a_pickle_cannot_make_much_of_little() {
    // A million empty dictionaries; a million marks; a tuple of a tuple of a tuple.
    for (byte, end) in [(b'}', &b"."[..]), (b'(', b"."), (b')', b"."), (b'N', b".")] {
        let program = [b"\x80\x02", &vec![byte; 3 << 20][..], end].concat();
        let _ = of(&old_form(&program, 0, b""));
    }
    let deep = [&b"\x80\x02)"[..], &vec![0x85; 1 << 19], b"."].concat();
    assert!(of(&old_form(&deep, 0, b"")).is_err());
    // A dictionary that holds itself.
    let own = b"\x80\x02}q\0X\x05\0\0\0modelh\0s.";
    assert!(of(&old_form(own, 0, b"")).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("LAKELENS_FUZZ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(400)
    ))]

    #[test]
    fn no_change_to_a_real_file_makes_it_panic_or_grow(
        form in prop::sample::select(vec!["2.15.0.pth", "2.15.0-old.pth", "1.13.0a0-checkpoint.pth", "2.15.0-protocol4.pth"]),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut file = bytes(form);
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Ok(tensors) = of(&file) {
            let all: usize = tensors.values().map(|t| t.bytes.len()).sum();
            prop_assert!(all <= 2 * file.len());
            for tensor in tensors.values() {
                prop_assert_eq!(tensor.dims.iter().product::<usize>() * tensor.kind.bytes(), tensor.bytes.len());
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = of(&bytes);
        let _ = of(&[b"PK\x03\x04", &bytes[..]].concat());
        let _ = of(&old_form(&bytes, 1, b"\0\0\0\0"));
    }

    #[test]
    fn any_cut_is_as_torch_makes_it(dims in proptest::collection::vec(1u64..5, 0..4), strides in proptest::collection::vec(0u64..7, 4), offset in 0u64..9) {
        let strides = &strides[..dims.len()];
        let storage: Vec<u8> = (0..60u32).flat_map(|n| (n as f32).to_le_bytes()).collect();
        let file = old_form(&one_tensor(60, offset, &dims, strides), 60, &storage);
        let size: u64 = dims.iter().product();
        let last = offset + dims.iter().zip(strides).map(|(d, s)| (d - 1) * s).sum::<u64>();
        let read = of(&file);
        prop_assert_eq!(read.is_ok(), last < 60 && size <= 60);
        if let Ok(tensors) = read {
            let want = (0..size).map(|mut n| {
                let mut at = offset;
                for (d, s) in dims.iter().zip(strides).rev() {
                    at += n % d * s;
                    n /= d;
                }
                at as f64
            });
            prop_assert_eq!(values(&tensors["t"]), want.collect::<Vec<_>>());
        }
    }
}
