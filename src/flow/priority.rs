//! Which of several sources goes first, and pairs of queues that obey it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Which source goes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// First.
    #[default]
    Live,
    /// With what is left.
    Backfill,
}

impl Priority {
    /// Both, in the order in which they are served.
    pub const ORDER: [Self; 2] = [Self::Live, Self::Backfill];
}

/// One of something for each priority.
#[derive(Debug, Clone, Default)]
pub struct ByPriority<T> {
    /// That of live items.
    pub live: T,
    /// That of backfill.
    pub backfill: T,
}

impl<T> ByPriority<T> {
    /// That of `priority`.
    pub fn of(&self, priority: Priority) -> &T {
        match priority {
            Priority::Live => &self.live,
            Priority::Backfill => &self.backfill,
        }
    }

    /// That of `priority`, to be changed.
    pub fn of_mut(&mut self, priority: Priority) -> &mut T {
        match priority {
            Priority::Live => &mut self.live,
            Priority::Backfill => &mut self.backfill,
        }
    }
}

impl<T> ByPriority<mpsc::UnboundedReceiver<T>> {
    /// The next value, a live one if there is any; `None` when both are closed and empty. May be dropped at any time.
    pub async fn recv(&mut self) -> Option<T> {
        tokio::select! {
            biased;
            Some(value) = self.live.recv() => Some(value),
            Some(value) = self.backfill.recv() => Some(value),
            else => None,
        }
    }
}

impl<T> ByPriority<mpsc::Receiver<T>> {
    /// As for unbounded channels.
    pub async fn recv(&mut self) -> Option<T> {
        tokio::select! {
            biased;
            Some(value) = self.live.recv() => Some(value),
            Some(value) = self.backfill.recv() => Some(value),
            else => None,
        }
    }
}

/// Two unbounded channels as one.
pub fn unbounded<T>() -> (ByPriority<mpsc::UnboundedSender<T>>, ByPriority<mpsc::UnboundedReceiver<T>>) {
    let ((live, of_live), (backfill, of_backfill)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    (ByPriority { live, backfill }, ByPriority { live: of_live, backfill: of_backfill })
}

/// Two channels for `room` values each, as one.
pub fn bounded<T>(room: usize) -> (ByPriority<mpsc::Sender<T>>, ByPriority<mpsc::Receiver<T>>) {
    let ((live, of_live), (backfill, of_backfill)) = (mpsc::channel(room), mpsc::channel(room));
    (ByPriority { live, backfill }, ByPriority { live: of_live, backfill: of_backfill })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_live_is_received_first_and_each_kind_in_its_order() {
        let (to, mut from) = unbounded();
        for n in 0..3 {
            to.backfill.send(10 + n).unwrap();
            to.live.send(n).unwrap();
        }
        drop(to.live);
        let mut got = vec![from.recv().await.unwrap()];
        drop(to.backfill);
        while let Some(n) = from.recv().await {
            got.push(n);
        }
        assert_eq!(got, [0, 1, 2, 10, 11, 12]);
    }

    #[tokio::test]
    async fn a_full_channel_of_backfill_keeps_no_live_event_out() {
        let (to, mut from) = bounded(2);
        while to.backfill.try_send('b').is_ok() {}
        to.of(Priority::Live).try_send('l').unwrap();
        assert_eq!((from.recv().await, from.recv().await, from.recv().await), (Some('l'), Some('b'), Some('b')));
        drop(to);
        assert_eq!(from.recv().await, None);
    }
}
