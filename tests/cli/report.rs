//! `lakelens report`.

use std::path::Path;

use serde_json::Value;

use super::{lake, run, stderr};

fn data(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

fn thumbnails(data: &Value) -> usize {
    data["items"].as_array().unwrap().iter().filter(|item| item["thumbnail"].is_string()).count()
}

#[test]
fn a_report_is_made_of_jsonl_and_parquet_with_pictures_where_they_are_asked_for() {
    let folder = lake(20);
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("photos/broken.jpg"), b"not a picture").unwrap();
    for out in ["out.jsonl", "out.parquet"] {
        run(folder.path(), &["-q", "label", "photos", "--model", "model", "--out", out], 0);
        let said = String::from_utf8(run(folder.path(), &["report", out], 0).stdout).unwrap();
        assert_eq!(said.split(';').next().unwrap(), "report.html: 20 records, 1 rejections");
        let found = data(&at("report.html"));
        assert_eq!((found["items"].as_array().unwrap().len(), thumbnails(&found)), (20, 0));
        assert_eq!(found["reasons"][0]["reason"], "unsupported_format");
        assert_eq!(found["space"]["items"].as_array().unwrap().len(), 20);
    }
    run(folder.path(), &["report", "out.jsonl", "--out", "by-uri.html", "--images"], 0);
    assert_eq!(thumbnails(&data(&at("by-uri.html"))), 20);

    // Pictures that lie elsewhere, of which one is another by now and one is gone.
    std::fs::rename(at("photos"), at("elsewhere")).unwrap();
    std::fs::copy(at("elsewhere/001 é+.png"), at("elsewhere/005 é+.png")).unwrap();
    std::fs::remove_file(at("elsewhere/002 é+.bmp")).unwrap();
    let said = run(folder.path(), &["report", "out.jsonl", "--out", "moved.html", "--images", "elsewhere"], 0).stdout;
    assert!(String::from_utf8(said).unwrap().contains("18 with a thumbnail (1 without: the file is "));
    let found = data(&at("moved.html"));
    assert_eq!(thumbnails(&found), 18);
    assert_eq!(found["items"][5]["missing"], "the file is another one than was labelled");
    assert_eq!(found["items"][2]["missing"], "the file is not there, or may not be read");
}

#[test]
fn counts_are_given_to_scripts() {
    let folder = lake(3);
    run(folder.path(), &["-q", "label", "photos", "--model", "model", "--out", "out.jsonl"], 0);
    let output = run(folder.path(), &["report", "out.jsonl", "--json"], 0);
    let counts: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&counts["records"], &counts["rejections"], &counts["formats"][0][1]), (&3.into(), &0.into(), &1.into()));
}

#[test]
fn what_cannot_be_reported_on_is_named() {
    let folder = lake(0);
    let said = |args: &[&str]| stderr(&run(folder.path(), args, 2));
    assert!(said(&["report", "no-such-file.jsonl"]).contains("no-such-file.jsonl"));
    std::fs::write(folder.path().join("out.jsonl"), "").unwrap();
    assert!(said(&["report", "out.jsonl", "--images", "no-such-folder"]).contains("write --images last"));
    std::fs::write(folder.path().join("page.html"), "mine").unwrap();
    assert!(said(&["report", "out.jsonl", "--out", "page.html"]).contains("--overwrite"));
    assert!(stderr(&run(folder.path(), &["report", "out.jsonl"], 0)).contains("the report is empty"));
    std::fs::write(folder.path().join("broken.jsonl"), "{\n{}\n").unwrap();
    let failed = stderr(&run(folder.path(), &["report", "broken.jsonl", "--out", "broken.html"], 1));
    assert!(failed.contains("broken.jsonl, line 1") && !folder.path().join("broken.html").exists(), "{failed}");
}
