//! `lakelens demo`.

use super::{records, run};

#[test]
fn the_demo_labels_what_it_draws_and_rejects_what_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let said = String::from_utf8(run(folder.path(), &["-q", "demo", "--out", "demo"], 0).stdout).unwrap();
    let all = records(&folder.path().join("demo/records.jsonl"));
    assert_eq!(all.len(), 196);
    let right = |record: &&serde_json::Value| {
        let name = record["uri"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        name.rsplit_once('-').unwrap().0 == record["labels"][0]["label"].as_str().unwrap().replace(' ', "-")
    };
    let right = all.iter().filter(right).count();
    assert!(right * 100 >= 97 * all.len(), "{right} of {}", all.len());
    assert!(said.contains(&format!("{right} of 196 pictures are labelled as what they were drawn as")), "{said}");
    assert_eq!(records(&folder.path().join("demo/records.jsonl.rejected.jsonl")).len(), 5);
    assert!(folder.path().join("demo/records.parquet").exists());
    let page = std::fs::read_to_string(folder.path().join("demo/report.html")).unwrap();
    assert!(said.contains("demo/report.html") && page.matches("\"thumbnail\":\"/9j/").count() == 196);
}
