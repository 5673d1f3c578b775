//! Trouble with the object store, made inside the worker: what a proxy cannot reach, since it ends before the socket or begins behind it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// 503 SlowDown instead of an answer.
    Storm,
    /// The body comes in drips.
    Slow,
    /// The body ends early, as if it were whole.
    Truncate,
    /// The connection breaks in mid-body.
    Reset,
    /// There is no connection.
    Refuse,
}

/// Between two drips of a slow body, and how many there are for each chunk.
const DRIP: Duration = Duration::from_millis(250);
const DRIPS: usize = 8;

impl Trouble {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "storm" => Self::Storm,
            "slow" => Self::Slow,
            "truncate" => Self::Truncate,
            "reset" => Self::Reset,
            "refuse" => Self::Refuse,
            _ => return None,
        })
    }

    /// The trouble of the next request: as the file that `LAKELENS_STORE_TROUBLE` names says at this moment (`storm 0.7`: of seven requests in ten).
    /// Each one that is struck lengthens the file of that name with `.struck` behind it.
    pub fn next() -> Option<Self> {
        if !cfg!(feature = "failpoints") {
            return None;
        }
        let path = std::env::var("LAKELENS_STORE_TROUBLE").ok()?;
        let said = std::fs::read_to_string(&path).ok()?;
        let (name, share) = said.trim().split_once(' ')?;
        let trouble = Self::named(name).filter(|_| rand::random::<f64>() < share.parse().unwrap_or(0.0))?;
        let mut struck = std::fs::OpenOptions::new().append(true).create(true).open(format!("{path}.struck")).ok()?;
        std::io::Write::write_all(&mut struck, b".").ok()?;
        Some(trouble)
    }

    /// The body of an answer that is in this trouble.
    pub fn of_body<E>(self, chunks: BoxStream<'static, Result<Bytes, E>>) -> BoxStream<'static, Result<Bytes, std::io::Error>>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let parts = chunks.flat_map(move |chunk| {
            stream::iter(match (self, chunk.map_err(std::io::Error::other)) {
                (Self::Slow, Ok(bytes)) => drips(&bytes).map(Ok).collect(),
                (Self::Truncate, Ok(bytes)) => vec![Ok(bytes.slice(..bytes.len() / 2))],
                (Self::Reset, Ok(bytes)) => vec![Ok(bytes.slice(..bytes.len() / 2)), Err(std::io::ErrorKind::ConnectionReset.into())],
                (_, chunk) => vec![chunk],
            })
        });
        let pause = if self == Self::Slow { DRIP } else { Duration::ZERO };
        parts
            .then(move |part| async move {
                tokio::time::sleep(pause).await;
                part
            })
            .boxed()
    }
}

fn drips(bytes: &Bytes) -> impl Iterator<Item = Bytes> + use<> {
    let (bytes, size) = (bytes.clone(), bytes.len().div_ceil(DRIPS).max(1));
    (0..bytes.len()).step_by(size).map(move |at| bytes.slice(at..(at + size).min(bytes.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(trouble: Trouble) -> (Vec<u8>, bool) {
        let chunks = [b"abcdefghij", b"klmnopqrst"].map(|c| Ok::<_, std::io::Error>(Bytes::from_static(c)));
        let parts: Vec<_> = trouble.of_body(stream::iter(chunks).boxed()).collect().await;
        (parts.iter().flatten().flatten().copied().collect(), parts.iter().any(Result::is_err))
    }

    #[tokio::test]
    async fn a_body_is_late_short_or_broken() {
        let begun = std::time::Instant::now();
        assert_eq!(body(Trouble::Slow).await, (b"abcdefghijklmnopqrst".to_vec(), false));
        assert!(begun.elapsed() >= DRIP * 10);
        assert_eq!(body(Trouble::Truncate).await, (b"abcdeklmno".to_vec(), false));
        assert!(body(Trouble::Reset).await.1);
    }
}
