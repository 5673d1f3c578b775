use super::*;
use std::path::Path;

fn touch(folder: &Path, names: &[&str]) {
    for name in names {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("below the folder")).expect("made");
        std::fs::write(path, b"x").expect("written");
    }
}

fn listing(path: &Path, state: Option<&Path>) -> config::Listing {
    config::Listing { path: path.to_string_lossy().into_owned(), state: state.map(Path::to_owned) }
}

async fn next(source: &mut Source) -> Event {
    tokio::time::timeout(Duration::from_secs(20), source.events.recv()).await.expect("in time").expect("an event")
}

/// All messages as (offset, key, value), and the first offset.
async fn drain(source: &mut Source) -> (i64, Vec<(i64, String, String)>) {
    let Event::Assigned { next_offset, .. } = next(source).await else { panic!("assigned first") };
    let mut messages = Vec::new();
    loop {
        match next(source).await {
            Event::Message(m) => {
                assert!(m.trusted);
                let value = String::from_utf8_lossy(&m.value.expect("a value")).into_owned();
                messages.push((m.offset, m.listing.expect("of a listing").1, value));
            }
            Event::End => return (next_offset, messages),
            other => panic!("{other:?}"),
        }
    }
}

fn config_error<T>(result: Result<T>) -> String {
    match result {
        Err(Error::Config(text)) => text,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was taken"),
    }
}

fn done_to(partition: Partition, next_offset: i64) -> CommitPoint {
    CommitPoint { source: 0, partition, assignment: 0, next_offset }
}

#[tokio::test]
async fn a_folder_is_numbered_in_order_and_goes_on_behind_what_was_committed() {
    let folder = tempfile::tempdir().expect("a folder");
    let photos = folder.path().join("photos");
    touch(&photos, &["a/1.jpg", "a.jpg", "b/c/2.PNG", "b/c.png", "z é+.webp", "README.txt", ".hidden.jpg", ".git/3.jpg"]);
    let state = folder.path().join("state.json");
    let config = listing(&photos, Some(&state));
    let expected = ["a/1.jpg", "a.jpg", "b/c/2.PNG", "b/c.png", "z é+.webp"];

    let mut source = start(&config, None, ListingOptions::default()).await.expect("started");
    let (first, all) = drain(&mut source).await;
    assert_eq!(first, 0);
    assert_eq!(all.iter().map(|m| m.1.as_str()).collect::<Vec<_>>(), expected);
    assert_eq!(all.iter().map(|m| m.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(all[4].2, format!("file://{}/z%20%C3%A9+.webp", photos.display()));
    let partition = Partition::new(config.path.as_str(), 0);
    let progress = source.control.progress().await.expect("known").expect("assigned");
    assert_eq!(progress, [Progress { partition: partition.clone(), position: 5, end: 5, exact: true }]);
    assert!(!state.exists(), "nothing is remembered before it is committed");

    for done in 1..=5 {
        source.control.commit(&[done_to(partition.clone(), done)]).await.expect("saved");
        let mut again = start(&config, None, ListingOptions::default()).await.expect("started");
        let (first, rest) = drain(&mut again).await;
        assert_eq!(first, done);
        assert_eq!(rest, all[done as usize..]);
    }
    source.control.commit(&[done_to(partition, 2)]).await.expect("ignored");
    let mut again = start(&config, None, ListingOptions::default()).await.expect("started");
    assert_eq!(drain(&mut again).await.0, 5, "a late commit does not take anything back");

    let other = listing(&folder.path().join("photos/b"), Some(&state));
    let text = config_error(start(&other, None, ListingOptions::default()).await);
    assert!(text.contains("photos/b") && text.contains("delete it to begin anew"), "{text}");
    std::fs::write(&state, "{\"x\":1}").expect("written");
    assert!(config_error(start(&config, None, ListingOptions::default()).await).contains("is not a state file"));
}

#[tokio::test]
async fn what_is_not_there_is_named_before_anything_starts() {
    let folder = tempfile::tempdir().expect("a folder");
    touch(folder.path(), &["a.jpg"]);
    let there = folder.path().join("a.jpg").to_string_lossy().into_owned();
    for missing in ["no/such/folder", "no/such/*.jpg", "s3://", "https://example.com/a.jpg", ""] {
        let inputs = [there.clone(), missing.to_owned()];
        let text = config_error(start_inputs(&inputs, None, None, ListingOptions::default()).await);
        assert!(text.contains(missing.split("://").next().expect("a part")), "{text}");
    }
    let text = config_error(start_inputs(&[format!("{}/*.png", folder.path().display())], None, None, ListingOptions::default()).await);
    assert!(text.contains("nothing matches"), "{text}");
    let text = config_error(start_inputs(&["s3://b/x/".to_owned()], None, None, ListingOptions::default()).await);
    assert!(text.contains("s3://b/x/"), "{text}");
}

#[tokio::test]
async fn inputs_of_all_kinds_are_chained_under_running_numbers() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    touch(folder.path(), &["d/1.jpg", "d/2.jpg", "odd name.dat", "g/x.jpg", "g/y.txt", "g/deep/z.jpg", "lit[1].jpg", "lit1.jpg"]);
    std::fs::write(folder.path().join("refs.jsonl"), "{\"uri\":\"s3://b/k\"}\r\n\n  \ns3://b/a b\nlast").expect("written");
    let inputs = [at("d"), at("odd name.dat"), at("g/*.jpg"), at("refs.jsonl"), at("lit[1].jpg"), at("g/*"), at("g/*.txt")];
    let state = folder.path().join("state");
    let mut source =
        start_inputs(&inputs, Some(&state), None, ListingOptions { buffer: 1, ..ListingOptions::default() }).await.expect("started");
    let (_, all) = drain(&mut source).await;
    let keys: Vec<&str> = all.iter().map(|m| m.1.as_str()).collect();
    let g = at("g");
    assert_eq!(
        keys,
        ["1.jpg", "2.jpg", &at("odd name.dat"), &format!("{g}/x.jpg"), "1", "4", "5", &at("lit[1].jpg")]
            .into_iter()
            .chain([format!("{g}/deep/z.jpg"), format!("{g}/x.jpg"), format!("{g}/y.txt")].iter().map(String::as_str))
            .collect::<Vec<_>>()
    );
    assert_eq!(all.iter().map(|m| m.0).collect::<Vec<_>>(), (0..all.len() as i64).collect::<Vec<_>>());
    assert_eq!(all[4].2, "{\"uri\":\"s3://b/k\"}");
    let partition = source.control.progress().await.expect("known").expect("assigned")[0].partition.clone();
    for done in 1..=all.len() as i64 {
        source.control.commit(&[done_to(partition.clone(), done)]).await.expect("saved");
        let mut again = start_inputs(&inputs, Some(&state), None, ListingOptions::default()).await.expect("started");
        assert_eq!(drain(&mut again).await, (done, all[done as usize..].to_vec()));
    }
}

#[tokio::test]
async fn lines_are_numbered_by_line_and_resumed_by_byte_also_when_compressed() {
    use std::io::Write;
    let folder = tempfile::tempdir().expect("a folder");
    let text = "\u{feff}s3://b/0\r\n\ns3://b/2\n\n\ns3://b/5";
    for compressed in [false, true] {
        let path = folder.path().join(if compressed { "refs.gz" } else { "refs" });
        if compressed {
            let mut gz = flate2::write::GzEncoder::new(std::fs::File::create(&path).expect("made"), Default::default());
            gz.write_all(text.as_bytes()).expect("written");
            gz.finish().expect("written");
        } else {
            std::fs::write(&path, text).expect("written");
        }
        let state = folder.path().join(format!("state-{compressed}"));
        let config = listing(&path, Some(&state));
        let mut source = super::super::lines::start(&config, ListingOptions::default()).expect("started");
        let (_, all) = drain(&mut source).await;
        let expected = [(0, "1", "s3://b/0"), (2, "3", "s3://b/2"), (5, "6", "s3://b/5")];
        assert_eq!(all, expected.map(|(o, k, v)| (o, k.to_owned(), v.to_owned())));
        let partition = Partition::new(config.path.as_str(), 0);
        source.control.commit(&[done_to(partition.clone(), 3)]).await.expect("saved");
        let mut again = super::super::lines::start(&config, ListingOptions::default()).expect("started");
        assert_eq!(drain(&mut again).await, (3, all[2..].to_vec()));
        source.control.commit(&[done_to(partition, 6)]).await.expect("saved");
        let mut again = super::super::lines::start(&config, ListingOptions::default()).expect("started");
        assert_eq!(drain(&mut again).await, (6, vec![]));
        std::fs::write(&path, "short").expect("written");
        let mut again = super::super::lines::start(&config, ListingOptions::default()).expect("started");
        assert!(matches!(next(&mut again).await, Event::Assigned { .. }));
        let Event::Failed(e) = next(&mut again).await else { panic!("a changed file") };
        assert!(e.to_string().contains("shorter"), "{e}");
    }
}

#[tokio::test]
async fn a_paused_listing_waits_and_a_stopped_one_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let names: Vec<String> = (0..100).map(|n| format!("{n:03}.jpg")).collect();
    touch(folder.path(), &names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut source =
        start(&listing(folder.path(), None), None, ListingOptions { buffer: 4, ..ListingOptions::default() }).await.expect("started");
    let partition = Partition::new(folder.path().to_string_lossy().as_ref(), 0);
    source.control.pause(&partition);
    let mut seen = 0;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(200), source.events.recv()).await {
        seen += 1;
    }
    assert!(seen <= 7, "{seen} came although it was paused");
    source.control.resume(&partition);
    assert!(matches!(next(&mut source).await, Event::Message(_)));
    let progress = source.control.progress().await.expect("known").expect("assigned");
    assert_eq!(progress[0].end, progress[0].position + 1, "more is to come");
    source.control.stop(Duration::from_secs(5)).await;
    while let Some(event) = source.events.recv().await {
        assert!(!matches!(event, Event::End), "a stopped listing is not at its end");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn links_are_not_followed_and_odd_names_survive() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().expect("a folder");
    let photos = folder.path().join("p");
    touch(&photos, &["line\nbreak.jpg", "%41.jpg", "q?#.jpg"]);
    touch(folder.path(), &["secret.jpg"]);
    let latin1 = photos.join(std::ffi::OsStr::from_bytes(b"\xe9.jpg"));
    std::fs::write(&latin1, b"x").expect("written");
    std::os::unix::fs::symlink(folder.path().join("secret.jpg"), photos.join("link.jpg")).expect("linked");
    std::os::unix::fs::symlink(folder.path(), photos.join("loop")).expect("linked");
    let mut source = start(&listing(&photos, None), None, ListingOptions::default()).await.expect("started");
    let (_, all) = drain(&mut source).await;
    let read_back: Vec<PathBuf> = all.iter().map(|m| m.2.parse::<url::Url>().expect("a URI").to_file_path().expect("a path")).collect();
    assert_eq!(read_back, [photos.join("%41.jpg"), photos.join("line\nbreak.jpg"), photos.join("q?#.jpg"), latin1]);
}

#[tokio::test]
async fn a_bucket_is_listed_over_several_pages_and_resumed_by_key() {
    let Ok(endpoint) = std::env::var("LAKELENS_TEST_S3") else {
        eprintln!("passed over: LAKELENS_TEST_S3 is not set");
        return;
    };
    let client = crate::store::s3_client(&config::S3 { endpoint: Some(endpoint), path_style: true, ..Default::default() }).await;
    let bucket = format!("listing-{}", rand::random::<u32>());
    client.create_bucket().bucket(&bucket).send().await.expect("a bucket");
    let mut keys: Vec<String> = (0..1050).map(|n| format!("p/{n:04} +%20é.jpg")).collect();
    keys.extend(["p/a.jpg", "p/a.jpg.bak", "p/a/b.jpg", "p/a-b.txt"].map(str::to_owned));
    for key in &keys {
        client.put_object().bucket(&bucket).key(key).body(bytes::Bytes::from_static(b"x").into()).send().await.expect("put");
    }
    keys.sort_unstable();
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let path = format!("s3://{bucket}/p/");
    let config = config::Listing { path: path.clone(), state: Some(state) };
    let mut source = start(&config, Some(client.clone()), ListingOptions::default()).await.expect("started");
    let (_, all) = drain(&mut source).await;
    assert_eq!(all.iter().map(|m| m.1.clone()).collect::<Vec<_>>(), keys);
    assert!(all.iter().all(|m| m.2 == format!("s3://{bucket}/{}", m.1)), "the raw key stands in the URI");
    let partition = Partition::new(path, 0);
    for done in [1, 999, 1000, 1001, 1053, 1054] {
        source.control.commit(&[done_to(partition.clone(), done)]).await.expect("saved");
        let mut again = start(&config, Some(client.clone()), ListingOptions::default()).await.expect("started");
        assert_eq!(drain(&mut again).await, (done, all[done as usize..].to_vec()));
    }
    let one = config::Listing { path: format!("s3://{bucket}/p/a.jpg"), state: None };
    let mut source = start(&one, Some(client), ListingOptions::default()).await.expect("started");
    let (_, all) = drain(&mut source).await;
    assert_eq!(all.iter().map(|m| m.1.as_str()).collect::<Vec<_>>(), ["p/a.jpg"], "an object's own key means that object");
}
