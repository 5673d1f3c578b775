use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::time::{sleep, timeout};

use super::*;
use crate::telemetry::Scheme;

type Answer = Box<dyn Fn(&Location) -> Result<(), FetchError> + Send + Sync>;

/// A store that answers as it is told.
struct Script {
    answer: Answer,
    readable: bool,
    asked: Mutex<Vec<Location>>,
    probes: AtomicUsize,
}

fn script(readable: bool, answer: impl Fn(&Location) -> Result<(), FetchError> + Send + Sync + 'static) -> Arc<Script> {
    Arc::new(Script { answer: Box::new(answer), readable, asked: Mutex::default(), probes: AtomicUsize::new(0) })
}

#[async_trait]
impl Fetch for Script {
    async fn fetch(&self, ask: &Ask<'_>) -> Result<Body, FetchError> {
        self.asked.lock().unwrap().push(ask.location.clone());
        (self.answer)(ask.location)?;
        let memory = ask.intake.reserve(Some(3)).await?;
        Ok(Body { bytes: Bytes::from_static(b"abc"), location: ask.location.clone(), etag: None, version: None, memory })
    }

    async fn probe(&self, _: &Location) -> bool {
        self.probes.fetch_add(1, Ordering::SeqCst);
        self.readable
    }
}

fn key(location: &Location) -> &str {
    match location {
        Location::S3 { key, .. } => key,
        _ => panic!("{location}"),
    }
}

fn busy() -> FetchError {
    FetchError::retry(AttemptEnd::ServerError, "503")
}

fn refused() -> FetchError {
    FetchError::Denied("403 AccessDenied".into())
}

#[tokio::test]
async fn an_outage_rejects_nothing_however_long_and_is_told() {
    let up = Arc::new(AtomicBool::new(false));
    let is_up = up.clone();
    let store = script(true, move |_| if is_up.load(Ordering::SeqCst) { Ok(()) } else { Err(busy()) });
    let fetcher = fetcher(config(&["lake/*"], &[], &[]), store, None);
    let tasks: Vec<_> = (0..3)
        .map(|n| {
            let fetcher = fetcher.clone();
            tokio::spawn(async move { get(&fetcher, &object("lake", &n.to_string())).await })
        })
        .collect();
    // Far beyond two attempts and 100 ms.
    sleep(Duration::from_millis(1500)).await;
    assert!(tasks.iter().all(|t| !t.is_finished()));
    let waiting = fetcher.waiting();
    assert_eq!(waiting.len(), 1);
    assert_eq!((waiting[0].place.0.as_str(), waiting[0].items, waiting[0].detail.as_str()), ("s3://lake", 3, "503"));
    up.store(true, Ordering::SeqCst);
    for task in tasks {
        assert!(task.await.unwrap().is_ok());
    }
    assert!(fetcher.waiting().is_empty());
}

#[tokio::test]
async fn an_item_that_is_dropped_is_waited_for_no_more() {
    let fetcher = fetcher(config(&["lake/*"], &[], &[]), script(true, |_| Err(busy())), None);
    assert!(timeout(Duration::from_millis(1200), get(&fetcher, &object("lake", "a"))).await.is_err());
    assert!(fetcher.waiting().is_empty());
}

#[tokio::test]
async fn one_failing_object_among_others_is_unavailable_even_as_the_last_of_its_bucket() {
    let store = script(true, |l| if key(l) == "bad" { Err(busy()) } else { Ok(()) });
    let fetcher = fetcher(config(&["lake/*"], &[], &[]), store.clone(), None);
    assert!(get(&fetcher, &object("lake", "good")).await.is_ok());
    // Nothing else is asked for any more: the object that worked last is tried again.
    let rejection = rejection(get(&fetcher, &object("lake", "bad")).await);
    assert_eq!(rejection.reason, Reason::Unavailable);
    let asked: Vec<String> = store.asked.lock().unwrap().iter().map(|l| key(l).to_owned()).collect();
    assert_eq!(asked, ["good", "bad", "bad", "good"]);
    // To look again at what worked is an attempt, and no retry.
    let ended = |end| fetcher.attempts.ends(Scheme::S3, end);
    assert_eq!((ended(AttemptEnd::Ok), ended(AttemptEnd::ServerError), fetcher.attempts.retries(Scheme::S3)), (2, 2, 1));
}

#[tokio::test]
async fn what_once_worked_proves_nothing_while_it_fails_too() {
    let up = Arc::new(AtomicBool::new(true));
    let is_up = up.clone();
    let store = script(true, move |_| if is_up.load(Ordering::SeqCst) { Ok(()) } else { Err(busy()) });
    let fetcher = fetcher(config(&["lake/*"], &[], &[]), store, None);
    assert!(get(&fetcher, &object("lake", "good")).await.is_ok());
    up.store(false, Ordering::SeqCst);
    assert!(timeout(Duration::from_millis(1500), get(&fetcher, &object("lake", "later"))).await.is_err());
}

#[tokio::test]
async fn a_strangers_place_is_measured_by_all_others() {
    let store = script(true, |l| if key(l) == "bad" { Err(busy()) } else { Ok(()) });
    let fetcher = fetcher(config(&["*"], &[], &[]), store, None);
    assert!(timeout(Duration::from_millis(1200), get(&fetcher, &object("dead", "bad"))).await.is_err(), "nobody succeeds");
    assert!(get(&fetcher, &object("alive", "good")).await.is_ok());
    assert_eq!(reason(get(&fetcher, &object("dead", "bad")).await), Reason::Unavailable);
}

#[tokio::test]
async fn throttling_never_counts_against_an_item_of_a_named_place() {
    let throttle = || FetchError::Retry { detail: "503 SlowDown".into(), kind: AttemptEnd::Throttled, retry_after: None };
    let store = script(true, move |l| if key(l) == "slow" { Err(throttle()) } else { Ok(()) });
    let named = fetcher(config(&["lake/*"], &[], &[]), store.clone(), None);
    assert!(get(&named, &object("lake", "good")).await.is_ok());
    assert!(timeout(Duration::from_millis(1500), get(&named, &object("lake", "slow"))).await.is_err());
    // A stranger's server could say so for ever.
    let anyone = fetcher(config(&["*"], &[], &[]), store, None);
    assert!(get(&anyone, &object("lake", "good")).await.is_ok());
    assert_eq!(reason(get(&anyone, &object("lake", "slow")).await), Reason::Unavailable);
}

#[tokio::test]
async fn a_pause_holds_no_slot() {
    let store = script(true, |l| if key(l) == "bad" { Err(busy()) } else { Ok(()) });
    let fetcher =
        fetcher(config::Fetch { concurrency: 1, give_up: Span(Duration::from_secs(60)), ..config(&["*"], &[], &[]) }, store, None);
    let stuck = fetcher.clone();
    let stuck = tokio::spawn(async move { get(&stuck, &object("lake", "bad")).await });
    sleep(Duration::from_millis(700)).await;
    let start = Instant::now();
    for n in 0..50 {
        assert!(fetcher.get(&object("lake", &n.to_string()), false, Priority::Live, &partition(n % 3)).await.is_ok());
    }
    assert!(start.elapsed() < Duration::from_millis(300));
    assert!(!stuck.is_finished());
    stuck.abort();
}

#[tokio::test]
async fn a_refused_object_of_a_readable_bucket_is_denied_at_once_and_a_strangers_always() {
    let store = script(true, |l| if key(l) == "bad" { Err(refused()) } else { Ok(()) });
    let named = fetcher(config(&["lake/*"], &[], &[]), store.clone(), None);
    assert!(get(&named, &object("lake", "good")).await.is_ok());
    assert_eq!(reason(get(&named, &object("lake", "bad")).await), Reason::AccessDenied);
    assert_eq!(store.probes.load(Ordering::SeqCst), 0);
    let anyone = fetcher(config(&["*"], &[], &[]), store, None);
    assert_eq!(reason(get(&anyone, &object("not-ours", "bad")).await), Reason::AccessDenied);
}

#[tokio::test]
async fn a_refused_object_is_held_until_another_of_its_bucket_is_read() {
    let store = script(false, |l| if key(l) == "bad" { Err(refused()) } else { Ok(()) });
    let fetcher = fetcher(config(&["lake/*"], &[], &[]), store.clone(), None);
    let held = fetcher.clone();
    let held = tokio::spawn(async move { get(&held, &object("lake", "bad")).await });
    sleep(Duration::from_millis(200)).await;
    assert!(!held.is_finished());
    assert_eq!(fetcher.waiting().len(), 1);
    assert!(get(&fetcher, &object("lake", "good")).await.is_ok());
    assert_eq!(reason(timeout(Duration::from_secs(2), held).await.unwrap().unwrap()), Reason::AccessDenied);
    assert!(fetcher.waiting().is_empty());
    assert_eq!(store.probes.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn nothing_but_403_stops_the_worker() {
    let fetcher = fetcher(config(&["lake/*"], &[], &[]), script(false, |_| Err(refused())), None);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..9 {
        let fetcher = fetcher.clone();
        tasks.spawn(async move { get(&fetcher, &object("lake", &n.to_string())).await });
    }
    assert!(timeout(Duration::from_millis(300), tasks.join_next()).await.is_err(), "nine may be chance");
    match get(&fetcher, &object("lake", "the tenth")).await {
        Err(GetError::Fatal(e)) => assert!(e.to_string().contains("403 for everything in s3://lake"), "{e}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_lone_refused_object_of_a_bucket_that_may_be_listed_is_its_own_fault() {
    let fetcher = fetcher(config(&["lake/*"], &[], &[]), script(true, |_| Err(refused())), None);
    assert_eq!(reason(get(&fetcher, &object("lake", "bad")).await), Reason::AccessDenied);
}

#[tokio::test]
async fn the_other_reading_of_a_key_is_tried_when_the_first_is_not_there() {
    let there = |ok: &'static str, otherwise: fn() -> FetchError| {
        let store = script(true, move |l| if key(l) == ok { Ok(()) } else { Err(otherwise()) });
        (store.clone(), fetcher(config(&["lake/*"], &[], &[]), store, None))
    };
    let missing = || FetchError::Missing("404 NoSuchKey".into());
    let mut reference = object("lake", "a b");
    reference.or_else = Some(Location::S3 { bucket: "lake".into(), key: "a+b".into() });

    let (store, fetcher) = there("a b", missing);
    assert_eq!(key(&get(&fetcher, &reference).await.unwrap().location), "a b");
    assert_eq!(store.asked.lock().unwrap().len(), 1);
    for otherwise in [missing, refused] {
        let (_, fetcher) = there("a+b", otherwise);
        assert_eq!(key(&get(&fetcher, &reference).await.unwrap().location), "a+b");
    }
    let (store, fetcher) = there("", missing);
    assert_eq!(reason(get(&fetcher, &reference).await), Reason::NotFound);
    let asked: HashSet<String> = store.asked.lock().unwrap().iter().map(|l| key(l).to_owned()).collect();
    assert_eq!(asked.len(), 2);

    // The second reading is a location like any other.
    let (store, _) = there("secret", missing);
    let narrow = super::fetcher(config(&["lake/a*"], &[], &[]), store.clone(), None);
    reference.or_else = Some(Location::S3 { bucket: "lake".into(), key: "secret".into() });
    assert_eq!(reason(get(&narrow, &reference).await), Reason::NotFound);
    assert_eq!(store.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_not_allowed_is_never_asked_for_and_fatal_answers_stop() {
    let store = script(true, |_| Err(FetchError::Fatal("SignatureDoesNotMatch".into())));
    let fetcher = fetcher(config(&["lake/*"], &[], &[]), store.clone(), None);
    for reference in [
        object("other", "a"),
        ImageRef::new(Location::File("/etc/passwd".into())),
        ImageRef::new(Location::Http("http://user:pass@example.com/?token=1".parse().unwrap())),
    ] {
        let rejection = rejection(get(&fetcher, &reference).await);
        assert_eq!((rejection.reason, rejection.stage), (Reason::ForbiddenLocation, Stage::Fetch));
        assert!(!rejection.detail.contains("pass@") && !rejection.detail.contains("token"), "{rejection}");
    }
    assert!(store.asked.lock().unwrap().is_empty());
    assert!(matches!(get(&fetcher, &object("lake", "a")).await, Err(GetError::Fatal(_))));
    assert!(matches!(fetcher.get(&object("other", "a"), true, Priority::Live, &partition(0)).await, Err(GetError::Fatal(_))), "trusted");
}

#[tokio::test]
async fn files_are_fetched_from_allowed_folders_and_wherever_the_user_himself_says() {
    let folder = tempfile::tempdir().unwrap();
    let allowed = folder.path().join("photos");
    std::fs::create_dir(&allowed).unwrap();
    std::fs::write(allowed.join("a b.jpg"), b"12345").unwrap();
    std::fs::write(allowed.join("empty"), b"").unwrap();
    std::fs::write(allowed.join("large"), vec![0; 100_001]).unwrap();
    std::fs::write(folder.path().join("outside"), b"x").unwrap();
    let fetcher = fetcher(config(&[], &[allowed.to_str().unwrap()], &[]), script(true, |_| Ok(())), None);
    let file = |path: std::path::PathBuf| ImageRef::new(Location::File(path));
    let body = get(&fetcher, &file(allowed.join("a b.jpg"))).await.unwrap();
    assert_eq!(&body.bytes[..], b"12345");
    assert_eq!(body.memory.bytes(), 1024);
    assert_eq!(reason(get(&fetcher, &file(allowed.join("empty"))).await), Reason::Empty);
    assert_eq!(reason(get(&fetcher, &file(allowed.join("large"))).await), Reason::TooLarge);
    assert_eq!(reason(get(&fetcher, &file(allowed.join("none"))).await), Reason::NotFound);
    assert_eq!(reason(get(&fetcher, &file(folder.path().join("outside"))).await), Reason::ForbiddenLocation);
    assert_eq!(reason(get(&fetcher, &file(allowed.join("../outside"))).await), Reason::ForbiddenLocation);
    assert!(fetcher.get(&file(folder.path().join("outside")), true, Priority::Live, &partition(0)).await.is_ok());
    drop(body);
    assert_eq!(fetcher.pool.in_use(), 0);
}
