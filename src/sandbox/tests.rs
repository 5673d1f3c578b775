use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};
use proptest::prelude::*;

use super::message::{Reply, Request, receive, send};
use super::*;
use crate::config;
use crate::preprocess::{self, Preprocessor};

fn limits(timeout: Duration) -> Limits {
    Limits { timeout, ..Limits::new(&config::Fetch::default(), &config::Decode::default(), &config::Preprocess::default()) }
}

fn picture(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 7) as u8, (y * 5) as u8, (x * y) as u8])).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A decoder whose helper is the real one on a thread.
fn on_a_thread(limits: &Limits) -> Decoder {
    let mut decoder = Decoder::new(Helper { program: "/nonexistent".into(), memory: 0 }, limits);
    let (ours, theirs) = UnixStream::pair().unwrap();
    std::thread::spawn(move || serve::serve_at(theirs, false));
    decoder.process = Some(Process::at(ours, &decoder.settings).unwrap());
    decoder
}

/// It once told whoever read the worker's errors of a broken pipe.
#[test]
fn a_helper_whose_worker_is_gone_amid_an_answer_ends_quietly() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let settings = Decoder::new(Helper { program: "/nonexistent".into(), memory: 0 }, &limits(Duration::from_secs(10))).settings;
    send(&mut ours, &Request::Start(settings), &[]).unwrap();
    drop(ours);
    serve::serve_at(theirs, false).unwrap();
}

/// A decoder whose helper is a shell script, which has said that it is ready.
fn script(folder: &Path, body: &str) -> Decoder {
    let program = folder.join("helper");
    let mut frame = Vec::new();
    send(&mut frame, &Reply::Ready, &[]).unwrap();
    fs::write(folder.join("ready"), frame).unwrap();
    fs::write(&program, format!("#!/bin/sh\ncat {}/ready >&0\n{body}\n", folder.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    Decoder::new(Helper { program, memory: 1 << 30 }, &limits(Duration::from_millis(300)))
}

fn rejected<T: std::fmt::Debug>(result: std::result::Result<T, Failure>) -> Rejection {
    match result {
        Err(Failure::Rejected(rejection)) => rejection,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_helper_gives_what_decoding_here_gives(
        width in 1u32..300, height in 1u32..300, format in prop::sample::select(vec![ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Bmp]),
        damage: Option<(prop::sample::Index, u8)>, cut: Option<prop::sample::Index>,
    ) {
        let limits = limits(Duration::from_secs(10));
        let mut file = picture(width, height, format);
        if let Some((at, value)) = damage {
            let at = at.index(file.len());
            file[at] = value;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        let mut decoder = on_a_thread(&limits);
        let expected = preprocess::probe(&file, &limits);
        match (decoder.probe(&file), expected) {
            (Ok(found), Ok(header)) => {
                prop_assert_eq!(found, header);
                let here = preprocess::decode(&file, &header, &limits)
                    .map(|image| Preprocessor::new(limits.preprocess.clone()).pixels(&image));
                // The second time the helper has the file no more.
                for _ in 0..2 {
                    match (decoder.pixels(&file), &here) {
                        (Ok(there), Ok(here)) => prop_assert_eq!(&there, here),
                        (Err(Failure::Rejected(there)), Err(here)) => prop_assert_eq!(&there, here),
                        (there, here) => prop_assert!(false, "{:?}, not {:?}", there, here),
                    }
                }
            }
            (Err(Failure::Rejected(found)), Err(expected)) => prop_assert_eq!(found, expected),
            (found, expected) => prop_assert!(false, "{:?}, not {:?}", found, expected),
        }
    }

    #[test]
    fn what_a_helper_may_say_harms_nobody(bytes: Vec<u8>, width: u32, height: u32, length in 0usize..2000) {
        for message in [Reply::Pixels { width, height }, Reply::Header { format: "exe".into(), width, height, decode_bytes: usize::MAX }, Reply::Ready] {
            let mut decoder = on_a_thread(&limits(Duration::from_secs(10)));
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let mut said = Vec::new();
            send(&mut said, &Reply::Ready, &[]).unwrap();
            send(&mut said, &message, &vec![7; length]).unwrap();
            said.extend(&bytes);
            theirs.write_all(&said).unwrap();
            let mut process = Process::at(ours, &decoder.settings).unwrap();
            drop(theirs);
            let deadline = Instant::now() + Duration::from_secs(5);
            prop_assert!(process.decode(224, deadline).is_err());
            decoder.forget();
        }
        let _ = receive::<Reply>(&mut &bytes[..]);
    }
}

#[test]
fn a_file_that_a_helper_dies_on_is_crashed_after_a_second_helper() {
    let folder = tempfile::tempdir().unwrap();
    let mut decoder =
        script(folder.path(), &format!("echo >> {}/starts\nhead -c 1 <&0 >/dev/null\nkill -SEGV $$", folder.path().display()));
    let rejection = rejected(decoder.probe(b"a file"));
    assert_eq!((rejection.stage, rejection.reason), (Stage::Decode, Reason::Crashed));
    assert!(rejection.detail.contains("SIGSEGV"), "{}", rejection.detail);
    assert_eq!(fs::read_to_string(folder.path().join("starts")).unwrap().lines().count(), 2);
}

#[test]
fn a_file_that_hangs_a_helper_is_decode_timeout_and_the_helper_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut decoder = script(folder.path(), &format!("echo $$ >> {}/starts\nexec sleep 1000", folder.path().display()));
    let rejection = rejected(decoder.probe(&vec![0; 4 << 20]));
    assert_eq!(rejection.reason, Reason::DecodeTimeout);
    let starts = fs::read_to_string(folder.path().join("starts")).unwrap();
    assert_eq!(starts.lines().count(), 2);
    assert!(starts.lines().all(|pid| !Path::new("/proc").join(pid).exists()), "it is still there");
}

#[test]
fn a_helper_that_is_killed_once_costs_its_file_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut answer = Vec::new();
    send(&mut answer, &Reply::Rejected { reason: "empty".into(), detail: "seen".into() }, &[]).unwrap();
    fs::write(folder.path().join("answer"), answer).unwrap();
    let at = folder.path().display();
    let mut decoder = script(folder.path(), &format!("mkdir {at}/first 2>/dev/null && kill -KILL $$\ncat {at}/answer >&0\nsleep 1000"));
    assert_eq!(rejected(decoder.probe(b"a file")).detail, "seen");
}

#[test]
fn a_helper_that_cannot_start_is_no_fault_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    for program in ["/nonexistent", "/bin/false"] {
        let mut decoder = Decoder::new(Helper { program: program.into(), memory: 1 << 30 }, &limits(Duration::from_secs(1)));
        let Err(Failure::NoHelper(error)) = decoder.probe(b"a file") else { panic!("it starts") };
        assert!(error.to_string().contains(program), "{error}");
    }
    drop(folder);
}
