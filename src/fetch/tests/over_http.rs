use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::*;

/// An http server of which each connection is answered once, by `answer`, given the request's text.
async fn serve<F, R>(answer: F) -> SocketAddr
where
    F: Fn(String, TcpStream) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.windows(4).any(|w| w == b"\r\n\r\n") && stream.read_buf(&mut request).await.unwrap_or(0) > 0 {}
            tokio::spawn(answer(String::from_utf8_lossy(&request).into_owned(), stream));
        }
    });
    at
}

/// A server that answers by path, with whole responses.
async fn pages(page: impl Fn(&str, &str) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    serve(move |request, mut stream| {
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let response = page(&path, &request);
        async move {
            let _ = stream.write_all(&response).await;
        }
    })
    .await
}

fn ok(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: \"tag\"\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn status(line: &str, headers: &str) -> Vec<u8> {
    format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n{headers}\r\n").into_bytes()
}

fn url(text: &str) -> ImageRef {
    ImageRef::new(Location::Http(text.parse().unwrap()))
}

struct NoS3;

#[async_trait]
impl Fetch for NoS3 {
    async fn fetch(&self, _: &Ask<'_>) -> Result<Body, FetchError> {
        panic!("no S3 here")
    }
}

fn over_http(http: &[&str]) -> Arc<Fetcher> {
    fetcher(config(&[], &[], http), Arc::new(NoS3), None)
}

/// Looks every name up as `addresses`, which may differ each time.
fn lookup(addresses: impl Fn(usize) -> Vec<&'static str> + Send + Sync + 'static) -> Lookup {
    let count = AtomicUsize::new(0);
    Arc::new(move |_| {
        let found = addresses(count.fetch_add(1, Ordering::SeqCst));
        Box::pin(async move { Ok(found.into_iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect()) })
    })
}

#[tokio::test]
async fn a_page_is_fetched_plainly_and_credentials_stay_out_of_sight() {
    let at = pages(|path, request| {
        let lower = request.to_ascii_lowercase();
        assert!(lower.contains("accept-encoding: identity") && !lower.contains("cookie") && !lower.contains("referer"), "{request}");
        match path {
            "/auth" if lower.contains("authorization: basic dxnlcjpwyxnz") => ok(b"let in"),
            "/auth" => status("401 Unauthorized", "Set-Cookie: a=b\r\n"),
            "/a%20b?token=s3cret" => ok(b"12345"),
            _ => status("500 Oops", ""),
        }
    })
    .await;
    let fetcher = over_http(&[&at.to_string()]);
    let body = get(&fetcher, &url(&format!("http://{at}/a%20b?token=s3cret#fragment"))).await.unwrap();
    assert_eq!((&body.bytes[..], body.etag.as_deref()), (&b"12345"[..], Some("tag")));
    assert_eq!(&get(&fetcher, &url(&format!("http://user:pass@{at}/auth"))).await.unwrap().bytes[..], b"let in");
    assert_eq!(reason(get(&fetcher, &url(&format!("http://{at}/auth"))).await), Reason::FetchFailed);
    let rejection = rejection(get(&fetcher, &url(&format!("http://user:pass@{at}/broken?token=s3cret"))).await);
    assert_eq!(rejection.reason, Reason::Unavailable);
    assert!(!rejection.detail.contains("s3cret") && !rejection.detail.contains("pass"), "{rejection}");
    drop(body);
    assert_eq!(fetcher.pool.in_use(), 0);
}

#[tokio::test]
async fn answers_become_reasons() {
    let at = pages(|path, _| match path {
        "/ok" => ok(b"x"),
        "/empty" => ok(b""),
        "/204" => status("204 No Content", ""),
        "/large" => b"HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n".to_vec(),
        "/endless" => [&b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"[..], &vec![7; 150_000]].concat(),
        "/chunked" => {
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".to_vec()
        }
        "/chunked-short" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n9\r\nde".to_vec(),
        "/short" => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nonly this".to_vec(),
        "/garbage" => b"\x00\x01\x02 what?\r\n\r\n".to_vec(),
        "/nowhere" => status("302 Found", ""),
        other => status(&format!("{} Status", &other[1..]), ""),
    })
    .await;
    let fetcher = over_http(&[&at.to_string()]);
    let at = |path: &str| url(&format!("http://{at}{path}"));
    assert_eq!(&get(&fetcher, &at("/chunked")).await.unwrap().bytes[..], b"abcde");
    for (path, expected) in [
        ("/empty", Reason::Empty),
        ("/204", Reason::Empty),
        ("/large", Reason::TooLarge),
        ("/endless", Reason::TooLarge),
        ("/chunked-short", Reason::Unavailable),
        ("/short", Reason::Unavailable),
        ("/garbage", Reason::Unavailable),
        ("/404", Reason::NotFound),
        ("/410", Reason::NotFound),
        ("/403", Reason::AccessDenied),
        ("/400", Reason::FetchFailed),
        ("/451", Reason::FetchFailed),
        ("/206", Reason::FetchFailed),
        ("/nowhere", Reason::FetchFailed),
        ("/408", Reason::Unavailable),
        ("/500", Reason::Unavailable),
        ("/502", Reason::Unavailable),
    ] {
        assert_eq!(reason(get(&fetcher, &at(path)).await), expected, "{path}");
        assert_eq!(fetcher.pool.in_use(), 0, "{path}");
    }
    let mut newer = at("/ok");
    newer.etag = Some("older".into());
    assert!(matches!(get(&fetcher, &newer).await, Err(GetError::Skipped(Skip::Superseded))));
    newer.etag = Some("tag".into());
    assert!(get(&fetcher, &newer).await.is_ok());
}

#[tokio::test]
async fn a_server_that_recovers_is_asked_again_no_sooner_than_it_wants() {
    let count = Arc::new(AtomicUsize::new(0));
    let served = count.clone();
    let at = pages(move |_, _| match served.fetch_add(1, Ordering::SeqCst) {
        0 => status("503 Busy", "Retry-After: 1\r\n"),
        1 => status("500 Oops", ""),
        _ => ok(b"at last"),
    })
    .await;
    let start = Instant::now();
    let fetcher = over_http(&[&at.to_string()]);
    assert_eq!(&get(&fetcher, &url(&format!("http://{at}/"))).await.unwrap().bytes[..], b"at last");
    assert!(start.elapsed() >= Duration::from_millis(1200));
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn slow_and_silent_servers_end_as_rejections_while_others_answer() {
    let at = serve(|request, mut stream| async move {
        match request.split(' ').nth(1).unwrap_or_default() {
            "/ok" => drop(stream.write_all(&ok(b"fine")).await),
            "/drip" => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n").await;
                while stream.write_all(b"x").await.is_ok() {
                    sleep(Duration::from_millis(20)).await;
                }
            }
            "/stall" => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\nabc").await;
                sleep(Duration::from_secs(60)).await;
            }
            _ => sleep(Duration::from_secs(60)).await,
        }
    })
    .await;
    let quick = config::Fetch { timeout: Span(Duration::from_millis(100)), ..config(&[], &[], &[&at.to_string()]) };
    let fetcher = fetcher(quick, Arc::new(NoS3), None);
    let at = |path: &str| url(&format!("http://{at}{path}"));
    assert!(get(&fetcher, &at("/ok")).await.is_ok());
    let (drip, stall, silent) = (at("/drip"), at("/stall"), at("/silent"));
    let all = timeout(Duration::from_secs(20), async { tokio::join!(get(&fetcher, &drip), get(&fetcher, &stall), get(&fetcher, &silent)) });
    let (drip, stall, silent) = all.await.unwrap();
    for (result, said) in [(drip, "bytes within"), (stall, "no progress"), (silent, "no answer")] {
        let rejection = rejection(result);
        assert_eq!(rejection.reason, Reason::Unavailable);
        assert!(rejection.detail.contains(said), "{rejection}");
    }
}

#[tokio::test]
async fn redirects_are_followed_a_little_and_checked_each() {
    let at = pages(|path, request| {
        let host = request.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("host: ").map(str::to_owned)).unwrap();
        let port = host.rsplit_once(':').unwrap().1.to_owned();
        match path.trim_start_matches('/').parse::<u32>() {
            Ok(0) => ok(b"arrived"),
            Ok(n) => status("302 Found", &format!("Location: /{}\r\n", n - 1)),
            Err(_) if path == "/loopback" => status("301 Moved", &format!("Location: http://127.0.0.2:{port}/0\r\n")),
            Err(_) if path == "/name" => status("307 Moved", &format!("Location: http://other.test:{port}/0\r\n")),
            Err(_) if path == "/metadata" => status("308 Moved", "Location: http://169.254.169.254/latest/\r\n"),
            Err(_) if path == "/file" => status("302 Found", "Location: file:///etc/passwd\r\n"),
            Err(_) => status("302 Found", "Location: http://[bad\r\n"),
        }
    })
    .await;
    let here = format!("127.0.0.1:{}", at.port());
    for fetcher in [over_http(&[&here]), over_http(&[&here, "*"])] {
        let at = |path: &str| url(&format!("http://{at}{path}"));
        assert_eq!(&get(&fetcher, &at("/5")).await.unwrap().bytes[..], b"arrived");
        assert_eq!(reason(get(&fetcher, &at("/6")).await), Reason::FetchFailed);
        for path in ["/loopback", "/metadata", "/file"] {
            assert_eq!(reason(get(&fetcher, &at(path)).await), Reason::ForbiddenLocation, "{path}");
            // The user's own word for this URL is none for where its server sends us.
            assert_eq!(reason(fetcher.get(&at(path), true, Priority::Live, &partition(0)).await), Reason::ForbiddenLocation, "{path}");
        }
        assert_eq!(reason(get(&fetcher, &at("/bad")).await), Reason::FetchFailed);
    }
    // A name that an allowed host redirects to is looked up and checked like any other.
    let fetcher = fetcher(config(&[], &[], &[&here, "*"]), Arc::new(NoS3), Some(lookup(|_| vec!["127.0.0.1"])));
    assert_eq!(reason(get(&fetcher, &url(&format!("http://{at}/name"))).await), Reason::ForbiddenLocation);
}

#[tokio::test]
async fn a_name_leads_only_to_addresses_that_were_checked() {
    let at = pages(|_, _| ok(b"inside")).await;
    let inside = url(&format!("http://rebind.test:{}/", at.port()));
    let with = |http: &[&str], lookup| fetcher(config(&[], &[], http), Arc::new(NoS3), Some(lookup));
    for private in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "10.0.0.1", "169.254.169.254", "0.0.0.0"] {
        let fetcher = with(&["*", "*.test"], lookup(move |_| vec![private]));
        assert_eq!(reason(get(&fetcher, &inside).await), Reason::ForbiddenLocation, "{private}");
    }
    // Named, by name, by name and port, or by range, it may be private.
    for named in ["rebind.test".to_owned(), format!("rebind.test:{}", at.port()), "127.0.0.0/8".to_owned()] {
        let fetcher = with(&[&named], lookup(|_| vec!["127.0.0.1"]));
        assert_eq!(&get(&fetcher, &inside).await.unwrap().bytes[..], b"inside", "{named}");
    }
    // One address within the range and one without: only the first is ever connected to.
    let fetcher = with(&["127.0.0.1/32"], lookup(|_| vec!["127.0.0.2", "127.0.0.1"]));
    assert_eq!(&get(&fetcher, &inside).await.unwrap().bytes[..], b"inside");
    // The name moves between two look-ups: each connection goes where its own look-up was checked.
    let count = Arc::new(AtomicUsize::new(0));
    let looked = count.clone();
    let moving = lookup(move |n| {
        looked.fetch_add(1, Ordering::SeqCst);
        if n == 0 { vec!["127.0.0.1"] } else { vec!["127.0.0.9"] }
    });
    let fetcher = with(&["127.0.0.1/32"], moving);
    assert!(get(&fetcher, &inside).await.is_ok());
    assert_eq!(count.load(Ordering::SeqCst), 1, "what was checked is what was connected to");
    assert_eq!(reason(get(&fetcher, &inside).await), Reason::ForbiddenLocation);
    // The user's own word needs no list.
    let fetcher = with(&[], lookup(|_| vec!["127.0.0.1"]));
    assert!(fetcher.get(&inside, true, Priority::Live, &partition(0)).await.is_ok());
    assert_eq!(reason(get(&fetcher, &inside).await), Reason::ForbiddenLocation);
}
