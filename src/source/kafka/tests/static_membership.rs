//! `group.instance.id`: a member that the group knows again.

use super::*;

fn member(brokers: &str, topic: &str, id: &str) -> config::KafkaSource {
    let properties =
        BTreeMap::from([("group.instance.id".to_owned(), id.to_owned()), ("session.timeout.ms".to_owned(), "20000".to_owned())]);
    config::KafkaSource { properties, ..config(brokers, topic) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_that_restarts_within_its_session_moves_no_partition() {
    let Some(broker) = broker() else { return };
    let (topic, group) = (new_topic(&broker, 4, &[]).await, unique("group"));
    let mut stays = Worker::start(&member(&broker, &topic, "stays"), &group).await;
    stays.until(|w| w.assigned.len() == 4).await;
    let mut restarts = Worker::start(&member(&broker, &topic, "restarts"), &group).await;
    let deadline = Instant::now() + Duration::from_secs(40);
    while stays.assigned.len() != 2 || restarts.assigned.len() != 2 {
        assert!(Instant::now() < deadline, "{:?} and {:?}", stays.assigned, restarts.assigned);
        stays.next(Duration::from_millis(50)).await;
        restarts.next(Duration::from_millis(50)).await;
    }
    let (kept, moved) = (stays.assigned.clone(), restarts.assigned.clone());
    let revoked = stays.revoked;
    (0..4).for_each(|p| produce(&broker, &topic, p, 0, 10));
    restarts.until(|w| w.seen.len() == 20).await;
    restarts.commit(&topic, &moved.keys().map(|p| (*p, 10)).collect::<Vec<_>>()).await;
    restarts.stop().await;

    let begun = Instant::now();
    let mut restarts = Worker::start(&member(&broker, &topic, "restarts"), &group).await;
    restarts.until(|w| w.assigned.len() == 2).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "it waited for its own session: {:?}", begun.elapsed());
    assert_eq!(restarts.assigned.keys().collect::<Vec<_>>(), moved.keys().collect::<Vec<_>>());
    assert!(restarts.assigned.values().all(|next| *next == 10), "{:?}", restarts.assigned);
    stays.until(|w| w.seen.len() == 20).await;
    assert_eq!(stays.assigned.keys().collect::<Vec<_>>(), kept.keys().collect::<Vec<_>>());
    assert_eq!(stays.revoked, revoked, "a partition of the other was moved");
    stays.stop().await;
    restarts.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_workers_with_one_instance_id_the_older_is_told_and_ends() {
    let Some(broker) = broker() else { return };
    let (topic, group) = (new_topic(&broker, 1, &[]).await, unique("group"));
    produce(&broker, &topic, 0, 0, 5);
    let mut older = Worker::start(&member(&broker, &topic, "same"), &group).await;
    older.until(|w| w.seen.len() == 5).await;
    let mut newer = Worker::start(&member(&broker, &topic, "same"), &group).await;
    older.until(|w| w.failed.is_some()).await;
    let text = older.failed.take().expect("failed").to_string();
    assert!(text.contains("group.instance.id") && text.contains("an id of its own"), "{text}");
    newer.until(|w| w.seen.len() == 5).await;
    assert!(newer.failed.is_none());
    older.stop().await;
    newer.stop().await;
}
